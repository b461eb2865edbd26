"""Celery workers and their children are killed, stopped and hung; the servers stay well.

Each on one broker, the one where more can go wrong. Eight restarts are enough for every day; all fifty:

    ROLLING_RESTARTS=50 python -m pytest tests/faults/test_celery_workers.py -k rolling
"""

import json
import os
import signal
from collections.abc import AsyncIterator

import pytest

from app.core.celery_stop import EXIT_STUCK
from support.celery_scene import CeleryScene
from support.producer import Sessions, produce, sessions_for
from support.wait import eventually, stays
from support.workers import WorkerProcess

RESTARTS = int(os.environ.get("ROLLING_RESTARTS", "8"))
EACH = 125
# Time enough for a handler, and for a starved process, where a start too many would be a failure.
STEADY = {
    "WORKER_HANDLER_TIMEOUT_SECONDS": "30",
    "CELERY_SOFT_TIME_LIMIT_SECONDS": "33",
    "CELERY_TIME_LIMIT_SECONDS": "36",
    "CELERY_VISIBILITY_TIMEOUT_SECONDS": "80",
}
on_redis = pytest.mark.parametrize("tasks", ["redis"], indirect=True)
on_rabbitmq = pytest.mark.parametrize("tasks", ["rabbitmq"], indirect=True)


@pytest.fixture
async def sessions(tasks: CeleryScene) -> AsyncIterator[Sessions]:
    """Sessions of a producer."""
    async with sessions_for(tasks.postgres_url) as sessions:
        yield sessions


async def at_work(tasks: CeleryScene, order: int, times: int = 1) -> None:
    """Wait until an order has been started so many times."""

    def started() -> bool:
        return [id_ for id_, _, _ in tasks.starts()].count(order) >= times

    await eventually(started, 60, f"order {order} is at work")


@on_redis
async def test_children_workers_and_a_whole_machine_are_killed(
    tasks: CeleryScene, sessions: Sessions
) -> None:
    # Given two machines with two processes each, and work in the outbox
    killed, *orders = await tasks.orders(202)
    tasks.worker("celery_relay")
    machines = [tasks.celery(), tasks.celery()]
    # When a process is killed in the middle of its task
    tasks.send([killed], do="kill_once")
    await produce(tasks, sessions, orders)
    # And one machine freezes, with what it has prefetched, for longer than the visibility timeout
    await at_work(tasks, killed, times=2)
    machines[0].pause()
    # And the other is killed, so that nobody is left
    await eventually(lambda: len(tasks.starts()) > 60, 60)
    machines[1].kill9()
    tasks.celery()
    # Then everything is done, without anybody's help
    await tasks.until_processed([killed, *orders], 120)
    # And done once, also when the frozen machine goes on
    machines[0].resume()
    await eventually(lambda: tasks.left() == 0, 60, "nothing is left behind")
    assert await tasks.letters() == []
    (await tasks.ledger(f"Celery, {tasks.kind}: a child, a worker and all killed, one frozen")).assert_clean()


@on_redis
async def test_poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well(tasks: CeleryScene) -> None:
    # Given a worker with two processes
    tasks.settings |= {"WORKER_MAX_DELIVERIES": "2"}
    tasks.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "2", "CELERY_SOFT_TIME_LIMIT_SECONDS": "4"}
    tasks.limits |= {"CELERY_TIME_LIMIT_SECONDS": "6", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "14"}
    worker = tasks.celery()
    kill, sleep, block, bug, *well = await tasks.orders(44)
    # When tasks kill their process, hang, block their process, and have a bug
    tasks.send([kill], do="kill")
    tasks.send([block], do="block", seconds=60)
    tasks.send([sleep], do="sleep", seconds=60)
    tasks.send([bug], do="bug")
    tasks.send(well)
    # Then they are kept, with the reason, after two starts; a bug after one
    await tasks.until_processed(well, 90)
    await eventually(lambda: four_letters(tasks), 90)
    letters = {str(order_in(letter.event)): letter for letter in await tasks.letters()}
    assert set(letters) == {str(kill), str(block), str(sleep), str(bug)}
    assert "never finished" in letters[str(kill)].reason
    assert "never finished" in letters[str(block)].reason
    assert "longer than 2 s" in letters[str(sleep)].reason
    assert "a bug" in letters[str(bug)].reason
    starts = [order for order, _, _ in tasks.starts()]
    assert [starts.count(order) for order in (kill, block, sleep, bug)] == [2, 2, 2, 1]
    # And the worker is the same, has all its processes, and goes on
    tasks.send(await tasks.orders(5))
    await tasks.until_processed(tasks.accepted[-5:])
    assert worker.running
    tasks.accepted = [order for order in tasks.accepted if order not in {kill, block, sleep, bug}]
    (await tasks.ledger(f"Celery, {tasks.kind}: poison, hangs and bugs beside good work")).assert_clean()


async def four_letters(tasks: CeleryScene) -> bool:
    """Whether four messages were given up."""
    return len(await tasks.letters()) == 4


@on_redis
async def test_a_stop_finishes_quick_tasks_and_hands_back_the_rest(tasks: CeleryScene) -> None:
    # Given a worker with a quick and a long task in hand, and more in the queue
    quick, long, *queued = await tasks.orders(8)
    tasks.limits |= STEADY | {"CELERY_DRAIN_SECONDS": "4"}
    worker = tasks.celery()
    tasks.send([long], do="wait")
    await at_work(tasks, long)
    tasks.send([quick], do="sleep", seconds=0.5)
    await at_work(tasks, quick)
    tasks.send(queued)
    # When it is asked to stop
    worker.sigterm(25)
    # Then it ends long before the long task would, with the quick one done
    assert quick in await tasks.effects()
    # And another one does the rest, without a start held against the long task
    tasks.release()
    tasks.celery()
    await tasks.until_processed([quick, long, *queued], 60)
    assert [delivery for order, delivery, _ in tasks.starts() if order == long] == [1, 1]
    (await tasks.ledger("Celery, Redis: SIGTERM, handed back")).assert_clean()


@on_rabbitmq
async def test_a_stop_that_hangs_ends(tasks: CeleryScene) -> None:
    # Given a worker that will hang in its stop, with a long task in hand and more fetched
    long, *queued = await tasks.orders(6)
    tasks.limits |= STEADY | {"CELERY_DRAIN_SECONDS": "1"}
    worker = tasks.celery(FAULTY_STOP="hang")
    tasks.send([long], do="wait")
    await at_work(tasks, long)
    tasks.send(queued, do="wait")
    # When it is asked to stop
    assert worker.sigterm(40) == EXIT_STUCK
    # Then it ends all the same, and what it held is done by others
    assert "the stop hangs" in worker.log_text()
    tasks.release()
    tasks.celery()
    await tasks.until_processed([long, *queued], 60)
    (await tasks.ledger("Celery, RabbitMQ: a stop that hangs")).assert_clean()


@on_rabbitmq
@pytest.mark.long
@pytest.mark.timeout(40 * RESTARTS)
async def test_rolling_restarts_under_load(tasks: CeleryScene) -> None:
    # Given two workers, and work that never ends: many quick tasks, and some that take longer than a stop
    tasks.limits |= STEADY | {"CELERY_DRAIN_SECONDS": "0.5"}
    workers = [tasks.celery(), tasks.celery()]
    (killed,) = tasks.send(await tasks.orders(1), do="kill_once")
    orders = await tasks.orders(RESTARTS * EACH)
    for number in range(RESTARTS):
        some = orders[number * EACH : (number + 1) * EACH]
        tasks.send(some[:50], do="sleep", seconds=0.05)
        # When a new worker takes over from the oldest, in the middle of it, over and over; one is killed
        workers.append(tasks.celery())
        await until_started(workers[-1])
        tasks.send(some[50:53], do="sleep", seconds=0.9)
        tasks.send(some[53:], do="sleep", seconds=0.05)
        await at_work(tasks, some[52])
        if number == 2:
            workers[number].kill9()
        else:
            workers[number].send(signal.SIGTERM if number % 2 else signal.SIGQUIT)
    # Then all is done once, and nothing was given up
    await tasks.until_processed([killed, *orders], 15 * RESTARTS)
    for stopped in workers[:-2]:
        stopped.wait(60)
    assert all(worker.running for worker in workers[-2:])
    assert await tasks.letters() == []
    name = f"Celery, RabbitMQ: {RESTARTS} rolling restarts under {len(orders):,} tasks"
    (await tasks.ledger(name)).assert_clean()


async def until_started(worker: WorkerProcess) -> None:
    """Wait until a worker takes tasks."""
    await eventually(lambda: " ready." in worker.log_text(), 60, "the worker is ready")


@on_redis
async def test_memory_runs_out(tasks: CeleryScene) -> None:
    # Given a worker whose children are replaced when they have grown
    tasks.limits |= STEADY
    worker = tasks.celery(CELERY_MEMORY_LIMIT_MB="200")
    killed, exhausted, *leaking = await tasks.orders(14)
    # When tasks leave memory behind, one asks for more than there is, and the kernel kills the child of one
    tasks.send(leaking, do="grow", seconds=50)
    tasks.send([exhausted], do="exhaust")
    tasks.send([killed], do="kill_once")
    # Then all are done, by children that come and go, and the worker is the same
    await tasks.until_processed(tasks.accepted, 90)
    assert worker.running
    starts = tasks.starts()
    assert len({pid for order, _, pid in starts if order in leaking}) > 2
    assert [sorted(d for id_, d, _ in starts if id_ == order) for order in (killed, exhausted)] == [
        [1, 2]
    ] * 2
    assert await tasks.letters() == []
    (await tasks.ledger("Celery: a child out of memory, one killed, others grown")).assert_clean()


@on_redis
async def test_a_worker_holds_no_more_than_it_works_on(tasks: CeleryScene) -> None:
    # Given a worker whose two processes have long tasks, and short ones that wait
    tasks.limits |= STEADY
    tasks.celery()
    long = tasks.send(await tasks.orders(2), do="wait")
    for order in long:
        await at_work(tasks, order)
    short = tasks.send(await tasks.orders(20))
    # Then it leaves them to others
    await stays(lambda: (tasks.held(), tasks.waiting()) == (2, 20), 2, "short tasks are not hoarded")
    tasks.celery()
    await tasks.until_processed(short, 60)
    assert set(await tasks.effects()) == set(short)
    # And goes on when it is done
    tasks.release()
    await tasks.until_processed(long, 60)
    (await tasks.ledger("Celery: 20 short tasks beside 2 long ones")).assert_clean()


def order_in(event: bytes) -> int:
    """The order that a message is about."""
    return int(json.loads(event)["data"]["order_id"])

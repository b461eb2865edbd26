"""Celery workers and their children are killed, stopped and hung; the servers stay well.

Each on one broker, the one where more can go wrong. Eight restarts are enough for every day; all fifty:

    ROLLING_RESTARTS=50 python -m pytest tests/faults/test_celery_workers.py -k rolling
"""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from app.core.celery_stop import EXIT_STUCK
from support.celery_scene import CeleryScene
from support.producer import Sessions, produce, sessions_for
from support.servers import RedisServer
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
on_redis = pytest.mark.parametrize("scene", ["redis"], indirect=True)
on_rabbitmq = pytest.mark.parametrize("scene", ["rabbitmq"], indirect=True)


@pytest.fixture(params=["redis", "rabbitmq"])
def scene(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[CeleryScene]:
    """A broker that stays well."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.flush()
        url = server.url
    else:
        url = request.getfixturevalue("rabbit_url")
    with CeleryScene(postgres_url, url) as scene:
        yield scene


@pytest.fixture
async def sessions(scene: CeleryScene) -> AsyncIterator[Sessions]:
    """Sessions of a producer."""
    async with sessions_for(scene.postgres_url) as sessions:
        yield sessions


async def at_work(scene: CeleryScene, order: int, times: int = 1) -> None:
    """Wait until an order has been started so many times."""

    def started() -> bool:
        return [id_ for id_, _, _ in scene.starts()].count(order) >= times

    await eventually(started, 60, f"order {order} is at work")


@on_redis
async def test_children_workers_and_a_whole_machine_are_killed(
    scene: CeleryScene, sessions: Sessions
) -> None:
    # Given two machines with two processes each, and work in the outbox
    killed, *orders = await scene.orders(202)
    scene.worker("celery_relay")
    machines = [scene.celery(), scene.celery()]
    # When a process is killed in the middle of its task
    scene.send([killed], do="kill_once")
    await produce(scene, sessions, orders)
    # And one machine freezes, with what it has prefetched, for longer than the visibility timeout
    await at_work(scene, killed, times=2)
    machines[0].pause()
    # And the other is killed, so that nobody is left
    await eventually(lambda: len(scene.starts()) > 60, 60)
    machines[1].kill9()
    scene.celery()
    # Then everything is done, without anybody's help
    await scene.until_processed([killed, *orders], 120)
    # And done once, also when the frozen machine goes on
    machines[0].resume()
    await eventually(lambda: scene.left() == 0, 60, "nothing is left behind")
    assert await scene.letters() == []
    (await scene.ledger(f"Celery, {scene.kind}: a child, a worker and all killed, one frozen")).assert_clean()


@on_redis
async def test_poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well(scene: CeleryScene) -> None:
    # Given a worker with two processes
    scene.settings |= {"WORKER_MAX_DELIVERIES": "2"}
    scene.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "2", "CELERY_SOFT_TIME_LIMIT_SECONDS": "4"}
    scene.limits |= {"CELERY_TIME_LIMIT_SECONDS": "6", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "14"}
    worker = scene.celery()
    kill, sleep, block, bug, *well = await scene.orders(44)
    # When tasks kill their process, hang, block their process, and have a bug
    scene.send([kill], do="kill")
    scene.send([block], do="block", seconds=60)
    scene.send([sleep], do="sleep", seconds=60)
    scene.send([bug], do="bug")
    scene.send(well)
    # Then they are kept, with the reason, after two starts; a bug after one
    await scene.until_processed(well, 90)
    await eventually(lambda: four_letters(scene), 90)
    letters = {str(order_in(letter.event)): letter for letter in await scene.letters()}
    assert set(letters) == {str(kill), str(block), str(sleep), str(bug)}
    assert "never finished" in letters[str(kill)].reason
    assert "never finished" in letters[str(block)].reason
    assert "longer than 2 s" in letters[str(sleep)].reason
    assert "a bug" in letters[str(bug)].reason
    starts = [order for order, _, _ in scene.starts()]
    assert [starts.count(order) for order in (kill, block, sleep, bug)] == [2, 2, 2, 1]
    # And the worker is the same, has all its processes, and goes on
    scene.send(await scene.orders(5))
    await scene.until_processed(scene.accepted[-5:])
    assert worker.running
    scene.accepted = [order for order in scene.accepted if order not in {kill, block, sleep, bug}]
    (await scene.ledger(f"Celery, {scene.kind}: poison, hangs and bugs beside good work")).assert_clean()


async def four_letters(scene: CeleryScene) -> bool:
    """Whether four messages were given up."""
    return len(await scene.letters()) == 4


@on_redis
async def test_a_stop_finishes_quick_tasks_and_hands_back_the_rest(scene: CeleryScene) -> None:
    # Given a worker with a quick and a long task in hand, and more in the queue
    quick, long, *queued = await scene.orders(8)
    scene.limits |= STEADY | {"CELERY_DRAIN_SECONDS": "4"}
    worker = scene.celery()
    scene.send([long], do="wait")
    await at_work(scene, long)
    scene.send([quick], do="sleep", seconds=0.5)
    await at_work(scene, quick)
    scene.send(queued)
    # When it is asked to stop
    worker.sigterm(25)
    # Then it ends long before the long task would, with the quick one done
    assert quick in await scene.effects()
    # And another one does the rest, without a start held against the long task
    scene.release()
    scene.celery()
    await scene.until_processed([quick, long, *queued], 60)
    assert [delivery for order, delivery, _ in scene.starts() if order == long] == [1, 1]
    (await scene.ledger("Celery, Redis: SIGTERM, handed back")).assert_clean()


@on_rabbitmq
async def test_a_stop_that_hangs_ends(scene: CeleryScene) -> None:
    # Given a worker that will hang in its stop, with a long task in hand and more fetched
    long, *queued = await scene.orders(6)
    scene.limits |= STEADY | {"CELERY_DRAIN_SECONDS": "1"}
    worker = scene.celery(FAULTY_STOP="hang")
    scene.send([long], do="wait")
    await at_work(scene, long)
    scene.send(queued, do="wait")
    # When it is asked to stop
    assert worker.sigterm(40) == EXIT_STUCK
    # Then it ends all the same, and what it held is done by others
    assert "the stop hangs" in worker.log_text()
    scene.release()
    scene.celery()
    await scene.until_processed([long, *queued], 60)
    (await scene.ledger("Celery, RabbitMQ: a stop that hangs")).assert_clean()


@on_rabbitmq
@pytest.mark.long
@pytest.mark.timeout(40 * RESTARTS)
async def test_rolling_restarts_under_load(scene: CeleryScene) -> None:
    # Given two workers, and work that never ends: many quick tasks, and some that take longer than a stop
    scene.limits |= STEADY | {"CELERY_DRAIN_SECONDS": "0.5"}
    workers = [scene.celery(), scene.celery()]
    (killed,) = scene.send(await scene.orders(1), do="kill_once")
    orders = await scene.orders(RESTARTS * EACH)
    for number in range(RESTARTS):
        some = orders[number * EACH : (number + 1) * EACH]
        scene.send(some[:50], do="sleep", seconds=0.05)
        # When a new worker takes over from the oldest, in the middle of it, over and over; one is killed
        workers.append(scene.celery())
        await until_started(workers[-1])
        scene.send(some[50:53], do="sleep", seconds=0.9)
        scene.send(some[53:], do="sleep", seconds=0.05)
        await at_work(scene, some[52])
        if number == 2:
            workers[number].kill9()
        else:
            workers[number].send(signal.SIGTERM if number % 2 else signal.SIGQUIT)
    # Then all is done once, and nothing was given up
    await scene.until_processed([killed, *orders], 15 * RESTARTS)
    for stopped in workers[:-2]:
        stopped.wait(60)
    assert all(worker.running for worker in workers[-2:])
    assert await scene.letters() == []
    name = f"Celery, RabbitMQ: {RESTARTS} rolling restarts under {len(orders):,} tasks"
    (await scene.ledger(name)).assert_clean()


async def until_started(worker: WorkerProcess) -> None:
    """Wait until a worker takes tasks."""
    await eventually(lambda: " ready." in worker.log_text(), 60, "the worker is ready")


@on_redis
async def test_memory_runs_out(scene: CeleryScene) -> None:
    # Given a worker whose children are replaced when they have grown
    scene.limits |= STEADY
    worker = scene.celery(CELERY_MEMORY_LIMIT_MB="200")
    killed, exhausted, *leaking = await scene.orders(14)
    # When tasks leave memory behind, one asks for more than there is, and the kernel kills the child of one
    scene.send(leaking, do="grow", seconds=50)
    scene.send([exhausted], do="exhaust")
    scene.send([killed], do="kill_once")
    # Then all are done, by children that come and go, and the worker is the same
    await scene.until_processed(scene.accepted, 90)
    assert worker.running
    starts = scene.starts()
    assert len({pid for order, _, pid in starts if order in leaking}) > 2
    assert [sorted(d for id_, d, _ in starts if id_ == order) for order in (killed, exhausted)] == [
        [1, 2]
    ] * 2
    assert await scene.letters() == []
    (await scene.ledger("Celery: a child out of memory, one killed, others grown")).assert_clean()


@on_redis
async def test_a_worker_holds_no_more_than_it_works_on(scene: CeleryScene) -> None:
    # Given a worker whose two processes have long tasks, and short ones that wait
    scene.limits |= STEADY
    scene.celery()
    long = scene.send(await scene.orders(2), do="wait")
    for order in long:
        await at_work(scene, order)
    short = scene.send(await scene.orders(20))
    # Then it leaves them to others
    await stays(lambda: (scene.held(), scene.waiting()) == (2, 20), 2, "short tasks are not hoarded")
    scene.celery()
    await scene.until_processed(short, 60)
    assert set(await scene.effects()) == set(short)
    # And goes on when it is done
    scene.release()
    await scene.until_processed(long, 60)
    (await scene.ledger("Celery: 20 short tasks beside 2 long ones")).assert_clean()


def order_in(event: bytes) -> int:
    """The order that a message is about."""
    return int(json.loads(event)["data"]["order_id"])

"""Celery workers and their children are killed, stopped and hung; the servers stay well. On both brokers."""

import json
import signal
import time
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from support.celery_scene import CeleryScene
from support.producer import Sessions, produce, sessions_for
from support.servers import RedisServer
from support.wait import eventually


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


async def pid_at_work(scene: CeleryScene, order: int, times: int = 1) -> int:
    """The process in which an order has been started so many times."""

    def started() -> list[int]:
        pids = [pid for id_, _, pid in scene.starts() if id_ == order]
        return pids if len(pids) >= times else []

    return (await eventually(started, 40, f"order {order} is at work"))[-1]


async def test_children_workers_and_a_whole_machine_are_killed(
    scene: CeleryScene, sessions: Sessions
) -> None:
    # Given two machines with two processes each, work in the outbox, and a long task
    long, *orders = await scene.orders(202)
    scene.worker("celery_relay")
    machines = [scene.celery(), scene.celery()]
    scene.send([long], do="sleep", seconds=0.8)
    # When its process is killed in the middle
    psutil.Process(await pid_at_work(scene, long)).kill()
    await produce(scene, sessions, orders)
    # And one machine freezes, with what it has prefetched, for longer than the visibility timeout
    await pid_at_work(scene, long, times=2)
    machines[0].pause()
    # And the other is killed, so that nobody is left
    await eventually(lambda: len(scene.starts()) > 60, 40)
    machines[1].kill9()
    if not scene.uses_redis:  # RabbitMQ gives a frozen worker two heartbeats' time
        machines[0].kill9()
    scene.celery()
    # Then everything is done, without anybody's help
    await scene.until_processed([long, *orders], 60)
    # And done once, also when the frozen machine goes on
    machines[0].resume()
    await eventually(lambda: scene.left() == 0, 30, "nothing is left behind")
    assert await scene.letters() == []
    (await scene.ledger(f"Celery, {scene.kind}: a child, a worker and all killed, one frozen")).assert_clean()


async def test_poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well(scene: CeleryScene) -> None:
    # Given a worker with two processes
    scene.settings |= {"WORKER_MAX_DELIVERIES": "2"}
    worker = scene.celery()
    kill, sleep, block, bug, flap, *well = await scene.orders(45)
    # When tasks kill their process, hang, block their process, have a bug, and fail once
    scene.send([kill], do="kill")
    scene.send([block], do="block", seconds=60)
    scene.send([sleep], do="sleep", seconds=60)
    scene.send([bug], do="bug")
    scene.send([flap], do="flap", times=1)
    scene.send(well)
    # Then those that cannot succeed are kept, with the reason, after two starts; a bug after one
    await scene.until_processed([flap, *well], 60)
    await eventually(lambda: four_letters(scene), 60)
    letters = {str(order_in(letter.event)): letter for letter in await scene.letters()}
    assert set(letters) == {str(kill), str(block), str(sleep), str(bug)}
    assert "never finished" in letters[str(kill)].reason
    assert "never finished" in letters[str(block)].reason
    assert "longer than 1 s" in letters[str(sleep)].reason
    assert "a bug" in letters[str(bug)].reason
    starts = [order for order, _, _ in scene.starts()]
    assert [starts.count(order) for order in (kill, block, sleep, bug, flap)] == [2, 2, 2, 1, 2]
    # And the worker is the same, has all its processes, and goes on
    scene.send(await scene.orders(5))
    await scene.until_processed(scene.accepted[-5:])
    assert worker.running
    scene.accepted = [order for order in scene.accepted if order not in {kill, block, sleep, bug}]
    (await scene.ledger(f"Celery, {scene.kind}: poison, hangs and bugs beside good work")).assert_clean()


async def four_letters(scene: CeleryScene) -> bool:
    """Whether four messages were given up."""
    return len(await scene.letters()) == 4


async def test_a_stop_finishes_quick_tasks_and_hands_back_the_rest(scene: CeleryScene) -> None:
    number = signal.SIGTERM if scene.uses_redis else signal.SIGQUIT
    # Given a worker with a quick and a long task in hand, and more in the queue
    quick, long, *queued = await scene.orders(8)
    scene.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "20", "CELERY_SOFT_TIME_LIMIT_SECONDS": "22"}
    scene.limits |= {"CELERY_TIME_LIMIT_SECONDS": "24", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "60"}
    worker = scene.celery()
    scene.send([long], do="wait")
    await pid_at_work(scene, long)
    scene.send([quick], do="sleep", seconds=1)
    await pid_at_work(scene, quick)
    scene.send(queued, do="sleep", seconds=1)
    # When it is asked to stop
    began = time.monotonic()
    worker.send(number)
    worker.wait(25)
    # Then it ends soon, with the quick task done
    assert time.monotonic() - began < 12, worker.log_tail()
    assert quick in await scene.effects()
    # And another one does the rest, without a start held against the long task
    scene.release()
    scene.celery()
    await scene.until_processed([quick, long, *queued], 40)
    assert [delivery for order, delivery, _ in scene.starts() if order == long] == [1, 1]
    (await scene.ledger(f"Celery, {scene.kind}: {number.name}, handed back")).assert_clean()


def order_in(event: bytes) -> int:
    """The order that a message is about."""
    return int(json.loads(event)["data"]["order_id"])

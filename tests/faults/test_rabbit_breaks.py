"""RabbitMQ is stopped, killed, blocked and cut off, and takes queues, channels and consumers away."""

import asyncio
from collections.abc import Iterator

import pytest

from support.proxy import FaultProxy
from support.scene import RabbitScene
from support.server import Server
from support.servers import RabbitServer
from support.wait import eventually, stays


@pytest.fixture
def scene(postgres_url: str, breakable: RabbitServer) -> Iterator[RabbitScene]:
    """A scene on that server."""
    with RabbitScene(postgres_url, breakable) as scene:
        yield scene


def deliveries(scene: RabbitScene) -> set[int]:
    """The delivery numbers under which handlers were started."""
    return {delivery for _, delivery, _ in scene.starts()}


@pytest.mark.long
@pytest.mark.parametrize("away", [30, 120])
async def test_killed_in_the_middle_of_a_backlog(
    scene: RabbitScene, breakable: RabbitServer, away: int
) -> None:
    # Given two replicas in the middle of a backlog
    orders = scene.send(await scene.orders(600))
    workers = [scene.worker(), scene.worker()]
    await eventually(lambda: len(scene.starts()) > 100, 30)
    # When RabbitMQ is killed and stays away, and one more replica starts meanwhile
    breakable.kill()
    workers.append(scene.worker())
    await eventually(lambda: not any(worker.ready() for worker in workers), 15, "readiness turns red")
    await stays(lambda: all(worker.running and not worker.ready() for worker in workers), away)
    await asyncio.to_thread(breakable.start)
    # Then the same workers do the rest
    await scene.until_processed(orders, 60)
    for worker in workers:
        await worker.until_ready(30)
    # And the new one works alone
    for worker in workers[:2]:
        worker.kill9()
    await scene.until_processed(scene.send(await scene.orders(20)), 30)
    assert scene.dead() == []
    (await scene.ledger(f"RabbitMQ killed mid-backlog, away for {away} s, 3 replicas")).assert_clean()


async def test_stopped_while_idle(scene: RabbitScene, breakable: RabbitServer) -> None:
    orders = scene.send(await scene.orders(100))
    worker = scene.worker()
    await scene.until_processed(orders, 30)
    await worker.until_ready(10)
    # When it is stopped and started while nothing is to do
    breakable.stop()
    await eventually(lambda: not worker.ready(), 15, "readiness turns red")
    await asyncio.to_thread(breakable.start)
    # Then the worker consumes again
    more = scene.send(await scene.orders(20))
    await scene.until_processed(more, 30)
    await worker.until_ready(10)
    # And once more
    await asyncio.to_thread(breakable.restart)
    last = scene.send(await scene.orders(20))
    await scene.until_processed(last, 30)
    (await scene.ledger("RabbitMQ stopped while idle, restarted")).assert_clean()


@pytest.mark.long
async def test_restarted_again_and_again_under_load(scene: RabbitScene, breakable: RabbitServer) -> None:
    # Given 5,000 messages and two replicas
    orders = scene.send(await scene.orders(5000))
    scene.worker(), scene.worker()
    # When RabbitMQ is restarted five times in the middle, two of them in a row
    for restart in range(5):
        goal = len(orders) * max(1, restart) // 7
        await eventually(lambda: len(scene.starts()) >= goal, 90, "progress")  # noqa: B023
        await asyncio.to_thread(breakable.restart)
    # Then each is done once, and none has run out of attempts
    await scene.until_processed(orders, 180)
    await eventually(lambda: scene.left() == 0, 30)
    assert scene.dead() == []
    (await scene.ledger("RabbitMQ restarted 5 times under 5,000 messages, 2 replicas")).assert_clean()


async def test_short_of_memory(scene: RabbitScene, breakable: RabbitServer) -> None:
    # Given a backlog, half of which has to be retried
    orders = scene.send(await scene.orders(40), do="sleep", seconds=0.1)
    retried = scene.send(await scene.orders(40), do="flap", times=1)
    breakable.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
    try:
        worker = await scene.worker().until_ready()
        # When RabbitMQ takes no messages: what succeeds is acknowledged all the same, and what has to be
        # retried stays in hand
        await scene.until_processed(orders, 30)
        await eventually(lambda: len(scene.starts()) >= 50, 30)
        await stays(lambda: worker.running and scene.dead() == [], 12)
        assert len(scene.starts()) == 50
    finally:
        breakable.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
    # Then the retries go out when it takes messages again
    await scene.until_processed([*orders, *retried], 60)
    await eventually(lambda: scene.left() == 0, 30)
    (await scene.ledger("RabbitMQ short of memory")).assert_clean()


async def test_connections_closed_by_an_operator(scene: RabbitScene, breakable: RabbitServer) -> None:
    orders = scene.send(await scene.orders(300))
    worker = scene.worker()
    await eventually(lambda: len(scene.starts()) > 50, 30)
    await asyncio.to_thread(breakable.rabbitmqctl, "close_all_connections", "maintenance")
    await scene.until_processed(orders, 30)
    await worker.until_ready(10)
    (await scene.ledger("connections closed by an operator")).assert_clean()


async def test_the_channel_is_closed_over_a_mistake(scene: RabbitScene) -> None:
    # Given a worker whose channel RabbitMQ closes (an acknowledgement of something that is not there)
    orders = scene.send(await scene.orders(30), do="sleep", seconds=0.2)
    worker = await scene.worker().until_ready()
    more = scene.send(await scene.orders(1), do="bad_ack")
    orders += scene.send(await scene.orders(30))
    # Then it opens another one and goes on
    await scene.until_processed([*orders, *more], 30)
    await worker.until_ready(10)
    await eventually(lambda: scene.left() == 0, 30)
    (await scene.ledger("channel closed by a precondition failure")).assert_clean()


async def test_the_queue_is_deleted_under_the_worker(scene: RabbitScene) -> None:
    orders = scene.send(await scene.orders(5))
    worker = scene.worker()
    await scene.until_processed(orders)
    # When the queue goes while a message is in hand
    more = scene.send(await scene.orders(1), do="sleep", seconds=2)
    await eventually(lambda: len(scene.starts()) == 6, 10)
    scene.amqp.delete(scene.queue.name)
    # Then the work in hand is finished, the queue is made anew, and new messages are consumed
    await eventually(lambda: scene.amqp.exists(scene.queue.name), 15)
    more += scene.send(await scene.orders(5))
    await scene.until_processed(more, 30)
    await worker.until_ready(10)
    # And so too when dead letters and pauses go
    scene.amqp.delete(scene.queue.dead, *scene.pauses())
    scene.amqp.delete_exchange(scene.queue.dead_exchange, *scene.pauses())
    more += scene.send(await scene.orders(5), do="flap", times=1)
    scene.send_raw(b"no message")
    await scene.until_processed(more, 30)
    await eventually(lambda: len(scene.dead()) == 1, 20)
    (await scene.ledger("queues deleted under the worker")).assert_clean()


async def test_half_open_connection(scene: RabbitScene, breakable: RabbitServer) -> None:
    # Given a worker whose connections to RabbitMQ die without a word
    with FaultProxy(breakable.port) as proxy:
        worker = await scene.worker(RABBITMQ_URL=proxy.url(breakable.url)).until_ready()
        orders = scene.send(await scene.orders(40), do="sleep", seconds=0.5)
        await eventually(lambda: len(scene.starts()) > 5, 20)
        proxy.half_open()
        await eventually(lambda: not worker.ready(), 25, "readiness turns red")
        # When the network is back (RabbitMQ itself notices the dead connection by its missing heartbeats)
        proxy.reset_connections()
        proxy.pass_through()
        # Then it consumes again within 30 s
        await scene.until_processed(orders, 60)
        await worker.until_ready(10)
    (await scene.ledger("half-open connection to RabbitMQ")).assert_clean()


async def test_a_paused_broker_loses_and_doubles_nothing(scene: RabbitScene, breakable: RabbitServer) -> None:
    orders = scene.send(await scene.orders(400))
    scene.worker(), scene.worker()
    await eventually(lambda: len(scene.starts()) > 100, 30)
    breakable.pause()
    await stays(lambda: True, 20)
    breakable.resume()
    await scene.until_processed(orders, 60)
    await eventually(lambda: scene.left() == 0, 30)
    assert scene.dead() == []
    (await scene.ledger("RabbitMQ paused for 20 s, 2 replicas")).assert_clean()


async def test_a_broker_that_is_away_is_not_asked_all_the_time(
    scene: RabbitScene, breakable: RabbitServer
) -> None:
    # Given a worker whose RabbitMQ goes away while it consumes
    with FaultProxy(breakable.port) as proxy:
        worker = await scene.worker(RABBITMQ_URL=proxy.url(breakable.url)).until_ready()
        breakable.kill()
        await eventually(lambda: not worker.ready(), 15, "readiness turns red")
        # Then it tries again with growing pauses, not as often as it can
        before = proxy.accepted
        await stays(lambda: worker.running and not worker.ready(), 10)
        assert 1 <= proxy.accepted - before <= 30


async def test_a_queue_without_a_leader(postgres_url: str, own_rabbit: RabbitServer) -> None:
    with RabbitScene(postgres_url, own_rabbit) as scene:
        worker = scene.worker().wait_ready()
        # Given a RabbitMQ that is killed before it has noted on disk that there is a new queue
        Server.kill(own_rabbit)
        await asyncio.to_thread(own_rabbit.start)
        # Then the worker says what keeps it waiting
        await eventually(lambda: "the queue has no leader" in worker.problems(), 30)
        # And works again when somebody has helped the queue
        queue = f'{{list_to_atom("%2F_{scene.group}"), node()}}'
        await asyncio.to_thread(own_rabbit.rabbitmqctl, "eval", f"ra:trigger_election({queue}).")
        orders = scene.send(await scene.orders(20))
        await scene.until_processed(orders, 60)
        await worker.until_ready(15)
        (await scene.ledger("queue without a leader")).assert_clean()

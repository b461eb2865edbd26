"""Queues, exchanges and messages as RabbitMQ sees them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from app.core.rabbit import RabbitConnection
from app.core.rabbit_topology import (
    DELIVERY_LIMIT,
    LONGEST_PAUSE,
    Queue,
    TopologyError,
    declare,
    declare_pause,
    pause_for,
)
from support.scene import RabbitScene
from support.servers import RabbitServer
from support.wait import eventually


@pytest.fixture
def scene(postgres_url: str, rabbit: RabbitServer) -> Iterator[RabbitScene]:
    """A scene on the RabbitMQ that all tests share."""
    with RabbitScene(postgres_url, rabbit) as scene:
        yield scene


@pytest.fixture
async def channel(rabbit: RabbitServer) -> AsyncIterator[AbstractChannel]:
    """A channel for this test."""
    connection = RabbitConnection(rabbit.url, "a test")
    yield await connection.channel()
    await connection.close()


@pytest.mark.parametrize("type_", ["quorum", "classic"])
async def test_declaring_twice_changes_nothing(
    scene: RabbitScene, channel: AbstractChannel, type_: str
) -> None:
    queue = Queue(f"twice.{type_}", "shop.twice", type=type_)  # type: ignore[arg-type]
    scene.amqp.delete(queue.name, queue.dead)
    await declare(channel, queue)
    await declare(channel, queue)


@pytest.mark.parametrize("type_", ["quorum", "classic"])
async def test_the_binding_of_the_dead_letters_fits(
    scene: RabbitScene, channel: AbstractChannel, type_: str
) -> None:
    # Given a queue as the worker declares it
    queue = Queue(f"rejecting.{type_}", "shop.rejecting", type=type_)  # type: ignore[arg-type]
    scene.amqp.delete(queue.name, queue.dead)
    await declare(channel, queue)
    scene.amqp.publish(queue.exchange, "shop.rejecting", [b"unwanted"])
    # When RabbitMQ itself sets a message aside
    source = await channel.get_queue(queue.name)
    message = await source.get(timeout=10)
    assert message is not None
    await message.reject(requeue=False)
    # Then it is among the dead letters
    await eventually(lambda: scene.amqp.ready(queue.dead) == 1, 10)
    (letter,) = scene.amqp.take(queue.dead)
    assert letter.body == b"unwanted"


async def test_another_queue_under_this_name_is_refused_in_one_line(scene: RabbitScene) -> None:
    # Given a queue that somebody made with other arguments
    scene.amqp.delete(scene.queue.name)
    scene.amqp.declare(scene.queue.name, {**scene.queue.arguments, "x-overflow": "drop-head"})
    # When the worker starts
    worker = scene.worker()
    # Then it ends with the code for settings, and one line says which argument differs and what to do
    assert worker.wait(60) == 78
    (line,) = [line for line in worker.log_text().splitlines() if "CRITICAL" in line]
    assert "the queue faulty exists with another x-overflow" in line
    assert "rabbitmqctl delete_queue faulty" in line
    assert "Traceback" not in worker.log_text()


async def test_another_exchange_is_refused_in_one_line(scene: RabbitScene, channel: AbstractChannel) -> None:
    await channel.declare_exchange("other.kind", "fanout", durable=True)
    with pytest.raises(
        TopologyError, match=r"exchange other\.kind exists with another type.*RABBITMQ_EXCHANGE"
    ):
        await declare(channel, Queue("q", "shop.q", exchange="other.kind"))
    scene.amqp.delete_exchange("other.kind")


def test_a_delivery_limit_never_without_dead_letters() -> None:
    for single in (False, True):
        arguments = Queue("q", "shop.q", single_active=single).arguments
        assert arguments["x-delivery-limit"] == DELIVERY_LIMIT > 100
        assert arguments["x-dead-letter-exchange"] == "events.dead"
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish"


@pytest.mark.parametrize(
    ("delay", "seconds"), [(0.01, 0.25), (0.25, 0.25), (0.3, 0.5), (5, 8), (300, 512), (1e9, LONGEST_PAUSE)]
)
def test_pauses_are_at_most_twice_as_long(delay: float, seconds: float) -> None:
    assert pause_for("events", delay).seconds == seconds


async def test_a_pause_brings_its_message_back(scene: RabbitScene, channel: AbstractChannel) -> None:
    # Given a pause
    target = Queue("after.pause", "shop.after")
    scene.amqp.delete(target.name, target.dead)
    await declare(channel, target)
    pause = pause_for("events", 0.9)
    await declare_pause(channel, pause)
    # When a message is in it
    connection = RabbitConnection(scene.server.url, "a test")
    sending = await connection.channel()
    exchange = await sending.get_exchange(pause.name, ensure=False)
    await exchange.publish(aio_pika.Message(b"later", delivery_mode=2, expiration=0.9), target.name)
    assert scene.amqp.ready(target.name) == 0
    # Then it arrives in the queue whose name was its key
    await eventually(lambda: scene.amqp.ready(target.name) == 1, 10)
    await connection.close()


async def test_a_worker_holds_no_more_than_its_prefetch(scene: RabbitScene) -> None:
    # Given 3,000 messages whose handlers wait
    scene.settings |= {"WORKER_CONCURRENCY": "5", "RABBITMQ_PREFETCH": "7"}
    orders = scene.send(await scene.orders(3000), do="wait")
    scene.worker()
    await eventually(lambda: len(scene.starts()) == 5, 30)
    # Then it holds what it was told to, and no handler more than its concurrency runs
    await eventually(lambda: scene.held() == 7, 30)
    assert len(scene.starts()) == 5
    scene.release()
    await scene.until_processed(orders, 120)
    (await scene.ledger("3,000 messages, prefetch 7")).assert_clean()


async def test_messages_of_strangers(scene: RabbitScene) -> None:
    # Given good messages without any properties, with a priority, and with headers that mean nothing to us
    orders = await scene.orders(3)
    scene.amqp.prepare(scene.queue)
    strange: list[dict[str, Any]] = [
        {},
        {"priority": 9},
        {
            "headers": {
                "blob": bytearray(b"\xff\xfe"),
                "x-death": "?",
                "worker-attempts": "many",
                "n": {"a": [1, None]},
            }
        },
    ]
    for order, properties in zip(orders, strange, strict=True):
        scene.amqp.publish(
            scene.exchange, scene.topic, [scene.event(order, do="flap", times=1)], **properties
        )
    # And a bad one with headers
    scene.amqp.publish(
        scene.exchange, scene.topic, [b"bad"], headers={"trace": "abc", "deep": {"a": [1, None]}}, priority=3
    )
    scene.accepted += orders
    scene.worker()
    # Then they are done, after a retry each
    await scene.until_processed(orders)
    # And the bad one is kept with its headers
    await eventually(lambda: len(scene.dead()) == 1, 20)
    (letter,) = scene.dead()
    assert (letter.event, letter.fields["trace"]) == (b"bad", b"abc")
    assert letter.fields["dead-queue"] == b"faulty"
    (await scene.ledger("messages of strangers")).assert_clean()


async def test_a_classic_queue_counts_too(scene: RabbitScene) -> None:
    # Given a message that kills its worker in a classic queue, which does not count deliveries
    scene.amqp.delete(scene.queue.name)
    poison, *others = await scene.orders(21)
    scene.settings["FAULTY_QUEUE"] = "classic"
    scene.amqp.prepare(Queue(scene.group, scene.topic, type="classic"))
    scene.send(others[:10])
    scene.send_raw(scene.event(poison, do="kill"))
    scene.send(others[10:])
    worker = scene.worker()

    def supervise() -> bool:
        nonlocal worker
        if not worker.running:
            worker = scene.worker()
        return len(scene.dead()) == 1

    await eventually(supervise, 120, "the message is set aside")
    await scene.until_processed(others)
    assert "5 times" in scene.dead()[0].reason
    (await scene.ledger("a message that kills its worker, classic queue")).assert_clean()


@pytest.mark.slow
async def test_a_handler_longer_than_the_brokers_patience_is_refused(scene: RabbitScene) -> None:
    worker = scene.worker(WORKER_HANDLER_TIMEOUT_SECONDS="1000")
    assert worker.wait(30) == 78
    assert (
        "one may be held for 2000 s, less than RABBITMQ_CONSUMER_TIMEOUT_SECONDS (1800)" in worker.log_text()
    )

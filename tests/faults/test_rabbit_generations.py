"""What differs between RabbitMQ 3.10 and 4.0, and what the templates rely on because it does not.

Each test asks the running server for its version and expects what that one does; `make test-matrix` runs all
of them on both.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed

from app.core.rabbit_queue import BROKERS_OWN, number
from app.core.rabbit_topology import LOOKS_LIMIT, Queue, declare, declare_pause, pause_for
from support import generations
from support.wait import eventually

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
CLASSIC: dict[str, Any] = {"x-queue-type": "classic"}


def version_of(connection: AbstractConnection) -> tuple[int, int]:
    """Major and minor version of the server at the other end."""
    assert connection.transport is not None
    properties: Any = connection.transport.connection.server_properties
    major, minor, *_ = str(properties["version"]).split(".")
    return int(major), int(minor)


@pytest.fixture
async def connection(rabbit_url: str) -> AsyncIterator[AbstractConnection]:
    """A connection to an empty virtual host, which the test may lose."""
    async with await aio_pika.connect(rabbit_url) as connection:
        yield connection


@pytest.fixture
async def channel(connection: AbstractConnection) -> AbstractChannel:
    """A channel with confirms."""
    return await connection.channel()


@pytest.fixture
def version(connection: AbstractConnection) -> tuple[int, int]:
    """Major and minor version of the server."""
    return version_of(connection)


async def filled(
    channel: AbstractChannel, arguments: dict[str, Any], *bodies: bytes, **properties: Any
) -> AbstractQueue:
    """A new queue with these messages in it."""
    queue = await channel.declare_queue("work", durable=True, arguments=arguments)
    await send(channel, *bodies, **properties)
    return queue


async def send(channel: AbstractChannel, *bodies: bytes, **properties: Any) -> None:
    """Send messages to the queue `work`, each confirmed."""
    for body in bodies:
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)
        await channel.default_exchange.publish(message, "work")


async def taken(queue: AbstractQueue) -> AbstractIncomingMessage:
    """The next message; it may still be on its way back into the queue."""

    async def get() -> AbstractIncomingMessage | None:
        return await queue.get(fail=False)

    message = await eventually(get, 10, f"a message in {queue.name}")
    assert message is not None
    return message


async def left(queue: AbstractQueue) -> list[bytes]:
    """Bodies of all messages of the queue in the order in which it gives them, taken out."""
    bodies = []
    while (message := await queue.get(fail=False, no_ack=True)) is not None:
        bodies.append(message.body)
    return bodies


def test_the_server_is_of_the_generation_that_was_asked_for(version: tuple[int, int]) -> None:
    asked = generations.chosen("rabbitmq")
    assert version >= (3, 10)
    assert asked is None or f"{version[0]}.{version[1]}.".startswith(asked.version)


@pytest.mark.parametrize("way", ["nack", "reject", "channel", "connection"])
async def test_every_way_back_into_a_quorum_queue_counts(rabbit_url: str, way: str) -> None:
    # Given a message
    connection = await aio_pika.connect(rabbit_url)
    channel = await connection.channel()
    await filled(channel, QUORUM, b"message")
    counts = []
    for _ in range(4):
        # When it is delivered, and goes back because it is returned or its consumer goes away
        message = await taken(await channel.get_queue("work"))
        counts.append(message.headers.get("x-delivery-count"))
        if way == "nack":
            await message.nack(requeue=True)
        elif way == "reject":
            await message.reject(requeue=True)
        elif way == "channel":
            await channel.close()
            channel = await connection.channel()
        else:
            await connection.close()
            connection = await aio_pika.connect(rabbit_url)
            channel = await connection.channel()
    # Then each delivery counts, on both generations; 4.0 leaves out the first
    assert counts == [None if version_of(connection) >= (4, 0) else 0, 1, 2, 3]
    assert [number(count) for count in counts] == [0, 1, 2, 3]
    await connection.close()


async def test_a_classic_queue_counts_nothing(channel: AbstractChannel) -> None:
    queue = await filled(channel, CLASSIC, b"message")
    for delivery in range(3):
        message = await taken(queue)
        assert "x-delivery-count" not in message.headers
        assert message.redelivered == (delivery > 0)
        await message.reject(requeue=True)


async def cancelled(connection: AbstractConnection, queue: AbstractQueue, after: int) -> set[int]:
    """Put 100 messages into `queue`, have a consumer with a prefetch of 20 acknowledge the first 40, and
    cancel it at message number `after`. How often those that it never got have been delivered.
    """
    await send(await connection.channel(), *[b"message"] * 100)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=20)
    got: list[AbstractIncomingMessage] = []
    enough = asyncio.Event()

    async def consume(message: AbstractIncomingMessage) -> None:
        got.append(message)
        if len(got) <= 40:
            await message.ack()
        if len(got) >= after:
            enough.set()

    consuming = await channel.get_queue("work")
    tag = await consuming.consume(consume)
    await asyncio.wait_for(enough.wait(), 10)
    await consuming.cancel(tag)
    left = [await taken(queue) for _ in range(100 - len(got))]
    for message in (*got[40:], *left):
        await message.ack()
    await channel.close()
    return {number(message.headers.get("x-delivery-count")) for message in left}


async def test_cancelling_a_busy_consumer_counts_what_is_on_its_way(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    queue = await filled(channel, QUORUM)

    async def some_were_counted() -> bool:
        return await cancelled(connection, queue, after=40) == {0, 1}

    # Given a consumer that is cancelled between its acknowledgements and the messages that follow them
    # Then some of those come back with a delivery that nobody saw, on both generations
    await eventually(some_were_counted, 60, "a message that was counted and never delivered")


async def test_cancelling_a_consumer_whose_window_is_full_counts_nothing(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    queue = await filled(channel, QUORUM)
    assert await cancelled(connection, queue, after=60) == {0}


async def test_without_a_limit_of_its_own_a_queue_of_4_drops_at_the_21st_return(
    channel: AbstractChannel, version: tuple[int, int]
) -> None:
    # Given a quorum queue with neither a delivery limit nor a dead-letter exchange
    queue = await filled(channel, QUORUM, b"message")
    # When its message is returned 21 times
    for _ in range(21):
        await (await taken(queue)).reject(requeue=True)
    await send(channel, b"behind it")  # has its place once the return has been dealt with
    # Then 4.0 has thrown it away without a word
    expected = [b"behind it"] if version >= (4, 0) else [b"message", b"behind it"]
    found: list[bytes] = []

    async def all_there() -> bool:
        found.extend(await left(queue))
        return b"behind it" in found

    await eventually(all_there, 10)
    assert sorted(found) == sorted(expected)


async def test_dead_letters_may_be_looked_at_more_than_twenty_times(channel: AbstractChannel) -> None:
    # Given a dead letter
    queue = Queue("looked-at", "shop.looked-at")
    await declare(channel, queue)
    dead = await channel.get_queue(queue.dead)
    await channel.default_exchange.publish(aio_pika.Message(b"dead", delivery_mode=2), queue.dead)
    # When it is looked at and returned
    for _ in range(30):
        await (await taken(dead)).nack(requeue=True)
    # Then it is still there: the queue's own limit of a million is accepted and holds
    assert (await taken(dead)).headers["x-delivery-count"] == 30
    assert LOOKS_LIMIT == 1_000_000


@pytest.mark.parametrize("condition", ["as aio-pika asks", "if_unused", "if_empty"])
async def test_a_quorum_queue_is_not_deleted_on_condition(rabbit_url: str, condition: str) -> None:
    # Given an empty, unused quorum queue, which aio-pika's delete() asks for by default
    connection = await aio_pika.connect(rabbit_url)
    closed = asyncio.Event()
    connection.close_callbacks.add(lambda *_: closed.set())
    channel = await connection.channel()
    queue = await filled(channel, QUORUM)
    asked = {"if_unused": condition == "if_unused", "if_empty": condition == "if_empty"}
    # When it is to be deleted
    with pytest.raises(AMQPError, match="not supported by quorum queues"):
        await (queue.delete() if condition == "as aio-pika asks" else queue.delete(**asked))
    # Then RabbitMQ closes the whole connection
    await asyncio.wait_for(closed.wait(), 10)
    await connection.close()
    # And without a condition it is deleted
    async with await aio_pika.connect(rabbit_url) as connection:
        queue = await (await connection.channel()).get_queue("work")
        await queue.delete(if_unused=False, if_empty=False)


async def test_a_quorum_queue_refuses_global_qos(rabbit_url: str) -> None:
    # Given a channel whose prefetch is to hold for all its consumers together
    connection = await aio_pika.connect(rabbit_url)
    channel = await connection.channel()
    queue = await filled(channel, QUORUM)
    await channel.set_qos(prefetch_count=10, global_=True)
    # When it consumes from a quorum queue, RabbitMQ closes the connection
    with pytest.raises(AMQPError, match="does not support global qos"):
        await queue.consume(nothing)
    await connection.close()


async def test_a_classic_queue_takes_global_qos(channel: AbstractChannel) -> None:
    queue = await filled(channel, CLASSIC)
    await channel.set_qos(prefetch_count=10, global_=True)
    await queue.cancel(await queue.consume(nothing))


async def nothing(_: AbstractIncomingMessage) -> None:
    """A consumer that leaves its messages alone."""


async def test_a_pause_ends_and_confirms(channel: AbstractChannel, version: tuple[int, int]) -> None:
    # Given a message with a time to live of its own in a pause (quorum, at-least-once, reject-publish)
    target = Queue("after-pause", "shop.after")
    await declare(channel, target)
    pause = pause_for(target.exchange, 60)
    await declare_pause(channel, pause)
    exchange = await channel.get_exchange(pause.name)
    message = aio_pika.Message(b"later", delivery_mode=2, expiration=0.3, priority=7, headers={"mine": 1})
    await exchange.publish(message, target.name)
    # When its time is over, long before that of the queue
    arrived = await taken(await channel.get_queue(target.name))
    # Then it is as it was sent, deliveries count from the beginning, and it does not expire again
    assert (arrived.body, arrived.priority, arrived.expiration) == (b"later", 7, None)
    assert number(arrived.headers.get("x-delivery-count")) == 0
    # And whatever RabbitMQ has added, a copy of ours leaves out
    added = set(arrived.headers) - {"mine"}
    assert ("x-last-death-reason" in added) == (version >= (4, 0))
    assert {"x-death", "x-first-death-reason"} <= added
    assert all(name.startswith(BROKERS_OWN) for name in added)


async def test_priority_in_a_quorum_queue(channel: AbstractChannel, version: tuple[int, int]) -> None:
    # Given six messages without priority, then six that are urgent
    queue = await filled(channel, QUORUM, *[b"usual"] * 6)
    await send(channel, *[b"urgent"] * 6, priority=5)
    # Then 4.0 gives two urgent ones for each usual one, and 3.10 knows no priority
    expected = [b"urgent", b"urgent", b"usual"] * 3 + [b"usual"] * 3
    assert await left(queue) == (expected if version >= (4, 0) else [b"usual"] * 6 + [b"urgent"] * 6)


async def test_priorities_up_to_4_are_usual(channel: AbstractChannel) -> None:
    queue = await filled(channel, QUORUM, b"first", priority=0)
    await send(channel, b"second", priority=4)
    assert await left(queue) == [b"first", b"second"]


async def test_priority_in_a_classic_queue_is_strict(channel: AbstractChannel) -> None:
    queue = await filled(channel, {**CLASSIC, "x-max-priority": 9}, *[b"usual"] * 3)
    await send(channel, *[b"urgent"] * 3, priority=5)
    assert await left(queue) == [b"urgent"] * 3 + [b"usual"] * 3


async def test_a_quorum_queue_refuses_levels_of_priority(channel: AbstractChannel) -> None:
    with pytest.raises(ChannelPreconditionFailed, match="invalid arg 'x-max-priority'"):
        await filled(channel, {**QUORUM, "x-max-priority": 9})


async def test_how_large_a_message_may_be(channel: AbstractChannel, version: tuple[int, int]) -> None:
    # Given a message of more than 16 MiB
    await filled(channel, QUORUM)
    body = b"x" * (16 * 1024 * 1024 + 1)
    # Then 4.0 closes the channel over it, and 3.10 takes it
    if version >= (4, 0):
        with pytest.raises(ChannelPreconditionFailed, match="larger than configured max size"):
            await send(channel, body)
    else:
        await send(channel, body)

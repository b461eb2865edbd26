"""A worker's end of its RabbitMQ queue: deliveries come in, and each is acknowledged once it is settled.

To give a message up for a while, or for good, a copy is sent and confirmed before the original is
acknowledged: a crash in between makes a second copy, which the inbox skips, and never loses the message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aio_pika import DeliveryMode, Message
from aiormq.abc import AbstractChannel, DeliveredMessage

from app.core.broker import BrokerDownError
from app.core.deadline import Watch
from app.core.foreign import Foreign
from app.core.rabbit import RABBIT_FAILURES, Confirmed, RabbitConnection, UnroutableError, ask, say
from app.core.rabbit_topology import Pause, Queue, declare, declare_pause, pause_for

logger = logging.getLogger(__name__)

ATTEMPTS, RETURNS = "worker-attempts", "worker-returns"
REASON, DELIVERIES, QUEUE, AT = "dead-reason", "dead-deliveries", "dead-queue", "dead-at"
# What RabbitMQ writes into headers itself; a copy starts without it.
BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
LARGEST_FLOAT = 3.4e38
PROBE_TIMEOUT = 5.0
STILLNESS = 0.2


class Arrival:
    """A delivery in hand.

    `count` is its number, failed attempts and killed workers together; `returns` counts the latter alone: how
    often RabbitMQ took the message back from a worker that went away.
    """

    __slots__ = ("count", "generation", "message", "raw", "returns", "suspect", "tag", "watch")

    def __init__(self, message: DeliveredMessage, generation: int) -> None:
        headers = message.header.properties.headers or {}
        delivered_before = number(headers.get("x-delivery-count"))
        self.message = message
        self.raw: bytes | None = message.body
        self.generation = generation
        self.tag = int(message.delivery_tag or 0)
        self.count = number(headers.get(ATTEMPTS)) + delivered_before + 1
        self.returns = number(headers.get(RETURNS)) + delivered_before
        self.suspect = False
        self.watch = Watch()

    @property
    def id(self) -> tuple[int, int]:
        """Tags start anew with each channel."""
        return self.generation, self.tag

    def foreign(self) -> Foreign:
        """See Delivery."""
        given = self.message.header.properties
        return Foreign(given.message_id or "", self.raw or b"", given.headers or {})


def number(value: Any) -> int:
    """A count out of a header; whoever sent the message may have put anything there."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class RabbitQueue:
    """Opened anew after each failure; `generation` counts that. What came over an earlier channel RabbitMQ
    has taken back, and nothing that is done to it here has an effect.
    """

    def __init__(self, url: str, queue: Queue, deliver: Callable[[Arrival], None]) -> None:
        self.queue = queue
        self.generation = 0
        self.prefetch = 0
        """0 while nothing is consumed."""
        self.changed = asyncio.Event()
        self._deliver = deliver
        # Two connections: RabbitMQ stops reading from one that publishes when it is short of memory, and then
        # the acknowledgements that would free it must still get through.
        self._incoming = RabbitConnection(url, f"{queue.name} consumes")
        self._copies = Confirmed(url, f"{queue.name} sends back")
        self._channel: AbstractChannel | None = None
        self._tags: list[str] = []
        self._switching = asyncio.Lock()
        self._may_acknowledge = asyncio.Event()
        self._may_acknowledge.set()
        self._unsettled: dict[int, None] = {}
        self._last_tag = 0
        self._pauses: set[Pause] = set()

    # -- consuming -------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the channel is usable, as far as known here."""
        return self._channel is not None and not self._channel.is_closed

    def has(self, arrival: Arrival) -> bool:
        """Whether `arrival` is still ours to settle."""
        return self.is_open and arrival.generation == self.generation

    async def open(self) -> None:
        """Declare the queue and get ready to consume. Raises BrokerDownError and TopologyError."""
        self._lose()
        channel = await self._incoming.channel()
        await declare(channel, self.queue)
        self.generation += 1
        self._unsettled.clear()
        self._last_tag = 0
        self._channel = await channel.get_underlay_channel()
        self._channel.closing.add_done_callback(lambda _: self.changed.set())
        self._channel.on_consumer_cancel_callbacks.add(self._cancelled)

    async def consume(self, prefetch: int) -> None:
        """Get up to `prefetch` messages at a time from now on. Raises BrokerDownError.

        What is consumed already goes on, and a second consumer gets the difference: see `cancel`.
        """
        async with self._switching:
            channel = self._usable()
            if prefetch <= self.prefetch:
                return
            await ask(channel.basic_qos(prefetch_count=prefetch - self.prefetch))
            generation = self.generation

            async def arrived(message: DeliveredMessage) -> None:
                if generation != self.generation:
                    return
                arrival = Arrival(message, generation)
                if arrival.tag != self._last_tag + 1:
                    # One that nobody saw would be acknowledged together with its neighbours.
                    logger.warning("%s: delivery %d is missing", self.queue.name, self._last_tag + 1)
                    self._lose()
                    self.changed.set()
                    return
                self._last_tag = arrival.tag
                self._unsettled[arrival.tag] = None
                self._deliver(arrival)

            try:
                answer = await ask(channel.basic_consume(self.queue.name, arrived))
            except BrokerDownError as error:
                if isinstance(error.__cause__, TimeoutError):  # see issue 10070 of rabbitmq-server
                    status = f"rabbitmq-queues quorum_status {self.queue.name}"
                    raise BrokerDownError(f"RabbitMQ: the queue has no leader: {status}") from error
                raise
            self._tags.append(str(answer.consumer_tag))
            self.prefetch = prefetch

    async def cancel(self) -> None:
        """Get no more messages; those in hand stay. Raises BrokerDownError.

        RabbitMQ takes back what is on its way to a consumer that is cancelled, and counts it as a delivery.
        Without acknowledgements for a moment, nothing is on its way.
        """
        async with self._switching:
            if not self.prefetch or not self.is_open:
                return
            self._may_acknowledge.clear()
            try:
                await asyncio.sleep(STILLNESS)
                tags, self._tags, self.prefetch = self._tags, [], 0
                for tag in tags:
                    await ask(self._usable().basic_cancel(tag))
            finally:
                self._may_acknowledge.set()

    async def probe(self) -> int:
        """How many consumers the queue has, asked over the channel that consumes: it lives if this answers.

        Raises BrokerDownError.
        """
        answer = await ask(self._usable().queue_declare(self.queue.name, passive=True), PROBE_TIMEOUT)
        return int(answer.consumer_count or 0)

    def _usable(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            raise BrokerDownError("RabbitMQ: the channel was closed")
        return self._channel

    def _cancelled(self, _frame: object) -> None:
        """RabbitMQ has ended our consumer: the queue was deleted, or its leader moved."""
        logger.warning("%s: RabbitMQ has cancelled the consumer", self.queue.name)
        self._lose()
        self.changed.set()

    def _lose(self) -> None:
        """Let go of the channel; its connection with it, since one that is silent keeps its messages."""
        if self._channel is not None:
            self._incoming.drop()
        self._channel, self.prefetch, self._tags = None, 0, []

    def lose(self) -> None:
        """Open anew before anything else is done: the channel does not answer."""
        self._lose()

    # -- settling --------------------------------------------------------------------------------------

    async def acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        """Acknowledge what is settled, as many as possible at once. What cannot be acknowledged any more is
        delivered again, and found in the inbox.
        """
        await self._may_acknowledge.wait()
        tags = [arrival.tag for arrival in arrivals if self.has(arrival)]
        if not tags:
            return
        for tag in tags:
            self._unsettled.pop(tag, None)
        oldest = next(iter(self._unsettled), None)
        channel = self._usable()
        together = [tag for tag in tags if oldest is None or tag < oldest]
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):  # a connection that went silent lets nobody write
                if together:
                    await channel.basic_ack(max(together), multiple=True, wait=False)
                for tag in tags:
                    if oldest is not None and tag > oldest:
                        await channel.basic_ack(tag, wait=False)
        except RABBIT_FAILURES:
            self._lose()
            self.changed.set()

    async def park(self, arrival: Arrival, delay: float, attempts: int, returns: int | None = None) -> None:
        """Send a copy that comes back after `delay` seconds, with `attempts` behind it; acknowledge the
        original afterwards. Raises BrokerDownError.
        """
        counts = {ATTEMPTS: attempts, RETURNS: arrival.returns if returns is None else returns}
        copy = copy_of(arrival.message, counts)
        if delay <= 0:
            await self._send(copy, self.queue.name, "")
            return
        pause = pause_for(self.queue.exchange, delay)
        copy.expiration = min(delay, pause.seconds)
        if pause not in self._pauses:
            await declare_pause(await self._copies.channel(), pause)
            self._pauses.add(pause)
        await self._send(copy, self.queue.name, pause.name)

    async def bury(self, arrival: Arrival, reason: str) -> None:
        """Send a copy to the dead letters: body and headers as they came, and the reason. As `park`."""
        note = {
            REASON: reason[:1000],
            DELIVERIES: arrival.count,
            QUEUE: self.queue.name,
            AT: datetime.now(UTC),
        }
        await self._send(copy_of(arrival.message, note), self.queue.name, self.queue.dead_exchange)

    async def _send(self, copy: Message, key: str, exchange: str) -> None:
        try:
            await self._copies.publish(copy, key, exchange)
        except (UnroutableError, BrokerDownError) as error:
            if not isinstance(error.__cause__, TimeoutError):
                await self._declare_again()
            raise BrokerDownError(say(error)) from error

    async def _declare_again(self) -> None:
        """Somebody may have deleted a queue or an exchange."""
        self._pauses.clear()
        with suppress(BrokerDownError):
            await declare(await self._copies.channel(), self.queue)

    async def close(self) -> None:
        """Close the connections, once RabbitMQ has read what was sent."""
        with suppress(BrokerDownError):
            await self.probe()
        await self._copies.close()
        await self._incoming.close()


def copy_of(message: DeliveredMessage, headers: dict[str, Any]) -> Message:
    """The message as it came, persistent, with more headers and without those that RabbitMQ wrote."""
    given = message.header.properties
    kept = {k: v for k, v in (given.headers or {}).items() if not k.startswith(BROKERS_OWN)}
    return Message(
        message.body,
        headers={**sendable(kept), **headers},
        delivery_mode=DeliveryMode.PERSISTENT,
        content_type=given.content_type,
        content_encoding=given.content_encoding,
        priority=given.priority,
        correlation_id=given.correlation_id,
        reply_to=given.reply_to,
        message_id=given.message_id,
        timestamp=given.timestamp,
        type=given.message_type,
        app_id=given.app_id,
    )


def sendable(value: Any) -> Any:
    """A header's value as pamqp can send it: it reads more kinds than it writes."""
    match value:
        case bytes():
            return bytearray(value)
        case float() if abs(value) > LARGEST_FLOAT:
            return str(value)
        case list():
            return [sendable(item) for item in value]
        case dict():
            return {name: sendable(item) for name, item in value.items()}
        case _:
            return value

"""A connection to RabbitMQ that works or says so, and publishing that is confirmed or known to have failed.

aio-pika's robust connection is not used: its first attempt fails at once, publishes that an outage hit are
not repeated, and a consumer that it could not restore ends in silence. Here the owner notices and opens anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError, PublishError
from yarl import URL

from app.core.broker import BrokerDownError
from app.core.deadline import end, within
from app.core.outcomes import PermanentError

T = TypeVar("T")
logger = logging.getLogger(__name__)

RABBIT_FAILURES = (*CONNECTION_EXCEPTIONS, TimeoutError)
# Its own messages would tell of each outage several times, with tracebacks.
for noisy in ("aiormq.connection", "aiormq.channel", "aio_pika.connection", "aio_pika.channel"):
    logging.getLogger(noisy).setLevel(logging.CRITICAL)

REQUEST_TIMEOUT = 10.0
CLOSE_TIMEOUT = 3.0
HEARTBEAT = 20
# Publishes that wait for their confirmation at once: enough for a disk's delay, few enough to send again.
WINDOW = 500


class UnroutableError(PermanentError):
    """No queue is bound for this message; RabbitMQ gave it back."""


def say(error: BaseException) -> str:
    """One line about a failure, without the address, which holds the password."""
    return f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")


async def ask(work: Coroutine[Any, Any, T], seconds: float = REQUEST_TIMEOUT) -> T:
    """The answer of RabbitMQ. Raises BrokerDownError when there is none.

    A channel that closes cancels those who wait for its answers, which must not pass for a cancellation of
    the caller.
    """
    try:
        return await within(seconds, work)
    except (asyncio.CancelledError, *RABBIT_FAILURES) as error:
        raise broker_down(error) from error


def broker_down(error: BaseException) -> BrokerDownError:
    """What a failure means. Raises `error` itself when the caller is the one that is cancelled."""
    if not isinstance(error, asyncio.CancelledError):
        return BrokerDownError(f"RabbitMQ: {say(error)}")
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error
    return BrokerDownError("RabbitMQ: the channel was closed")


class RabbitConnection:
    """One connection, opened when it is needed. `purpose` is the name that RabbitMQ's own tools show."""

    def __init__(self, url: str, purpose: str) -> None:
        # Over the URL's own options: a longer heartbeat would hide a dead connection for as long.
        self._url = URL(url).update_query(heartbeat=HEARTBEAT, name=purpose)
        self._connection: AbstractConnection | None = None
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def channel(self, *, returns: bool = True) -> AbstractChannel:
        """A new channel with confirms. Raises BrokerDownError."""
        connection = await self._connected()
        channel = connection.channel(publisher_confirms=True, on_return_raises=returns)
        await ask(channel.initialize())
        return channel

    async def _connected(self) -> AbstractConnection:
        async with self._opening:
            # Not `is_closed`, which says whether somebody closed it and nothing of one that was lost.
            if self._connection is None or not self._connection.connected.is_set():
                self.drop()
                self._connection = await ask(aio_pika.connect(self._url, timeout=REQUEST_TIMEOUT / 2))
            return self._connection

    async def unblocked(self) -> None:
        """Wait while RabbitMQ, short of memory or disk, takes no messages."""
        transport = self._connection.transport if self._connection is not None else None
        if transport is not None:
            await transport.ready()

    def drop(self) -> None:
        """Give up the connection without waiting: one that went silent would not even take a farewell. The
        next request opens a new one.
        """
        if self._connection is not None:
            closing = asyncio.ensure_future(close_quietly(self._connection))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._connection = None

    async def close(self) -> None:
        """Close the connection."""
        self.drop()
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_TIMEOUT + 1)
            await end(self._closing)


async def close_quietly(connection: AbstractConnection) -> None:
    """Close, and let it go when that takes long or fails."""
    try:
        await within(CLOSE_TIMEOUT, connection.close())
    except (*RABBIT_FAILURES, asyncio.CancelledError) as error:
        logger.debug("connection not closed in order: %s", say(error))


class Confirmed:
    """Publishes and waits for the confirmation, over a small pool of channels of one connection.

    Safe to call from many tasks at once; at most WINDOW messages are under way.
    """

    def __init__(self, url: str, purpose: str, channels: int = 2) -> None:
        self.connection = RabbitConnection(url, purpose)
        self._pool: deque[AbstractChannel | None] = deque([None] * channels)
        self._opening = asyncio.Lock()
        self._window = asyncio.Semaphore(WINDOW)
        self._under_way: dict[str, asyncio.Event] = {}

    async def publish(
        self,
        message: AbstractMessage,
        routing_key: str,
        exchange: str = "",
        *,
        channel: AbstractChannel | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        """Send `message` and wait until RabbitMQ has it on disk and in a queue. Over one `channel`, messages
        arrive in the order in which this is called.

        Raises UnroutableError when no queue takes it, and BrokerDownError when it is not known what became of
        it, within about `timeout` seconds.
        """
        await self._alone(message.message_id)
        try:
            async with self._window:
                await self._send(message, routing_key, exchange, channel or await self.channel(), timeout)
        finally:
            self._passed(message.message_id)

    async def _send(
        self, message: AbstractMessage, key: str, exchange: str, channel: AbstractChannel, timeout: float
    ) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self.connection.unblocked()
                # What aio-pika's `Exchange.publish` does too, for a fifth more processor time.
                underlay = await channel.get_underlay_channel()
                await underlay.basic_publish(
                    message.body,
                    exchange=exchange,
                    routing_key=key,
                    properties=message.properties,
                    mandatory=True,
                )
        except PublishError as error:
            raise UnroutableError(f"no queue is bound for {key!r} in exchange {exchange!r}") from error
        except DeliveryError as error:
            raise BrokerDownError(f"RabbitMQ does not take {key!r}: a queue is full or away") from error
        except TimeoutError as error:
            raise await self._silent() from error
        except (asyncio.CancelledError, *RABBIT_FAILURES) as error:
            raise broker_down(error) from error

    async def _silent(self) -> BrokerDownError:
        """What it means that no confirmation came: short of memory, or away without a word."""
        try:
            async with asyncio.timeout(0.05):
                await self.connection.unblocked()
        except (TimeoutError, BrokerDownError):
            return BrokerDownError("RabbitMQ takes no messages: it is short of memory or disk")
        self.connection.drop()  # the next one gets a new connection
        return BrokerDownError("RabbitMQ: no confirmation in time")

    async def channel(self) -> AbstractChannel:
        """An open channel, each in turn. Raises BrokerDownError."""
        self._pool.rotate(1)
        channel = self._pool[0]
        if channel is None or channel.is_closed:
            async with self._opening:
                channel = self._pool[0]
                if channel is None or channel.is_closed:
                    channel = self._pool[0] = await self.connection.channel()
        return channel

    async def _alone(self, message_id: str | None) -> None:
        """Wait while a message with this id is under way: aiormq finds what came back by the id, and would
        take the return of one for that of the other.
        """
        while message_id and (other := self._under_way.get(message_id)) is not None:
            await other.wait()
        if message_id:
            self._under_way[message_id] = asyncio.Event()

    def _passed(self, message_id: str | None) -> None:
        if message_id:
            self._under_way.pop(message_id).set()

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close()

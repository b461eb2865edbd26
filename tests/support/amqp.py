"""AMQP for tests that are not async: a connection in a thread, opened again when the broker was away."""

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelClosed, QueueEmpty

from app.core import rabbit_topology as topology
from app.core.rabbit_topology import Queue

T = TypeVar("T")
CALL_TIMEOUT = 60.0


class Amqp:
    """What a test does at the broker besides running workers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="amqp", daemon=True)
        self._thread.start()
        self._connection: AbstractConnection | None = None

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT)

    async def _channel(self) -> AbstractChannel:
        if self._connection is not None and not self._connection.is_closed:
            try:
                return await asyncio.wait_for(self._connection.channel(on_return_raises=True), 10)
            except (*CONNECTION_EXCEPTIONS, TimeoutError):
                await self._connection.close()
        self._connection = await aio_pika.connect(self.url, timeout=10)
        return await self._connection.channel(on_return_raises=True)

    def publish(self, exchange: str, key: str, bodies: Iterable[bytes], **properties: Any) -> None:
        """Send messages, each confirmed, to an exchange that is declared here if it is missing."""

        async def work() -> None:
            async with await self._channel() as channel:
                target = channel.default_exchange
                if exchange:
                    target = await channel.declare_exchange(exchange, "topic", durable=True)
                persistent = {"delivery_mode": 2, **properties}
                sending = [target.publish(aio_pika.Message(body, **persistent), key) for body in bodies]
                for start in range(0, len(sending), 500):
                    await asyncio.gather(*sending[start : start + 500])

        self._call(work())

    def ready(self, queue: str) -> int:
        """Messages in a queue that nobody holds; 0 when there is no such queue."""

        async def work() -> int:
            channel = await self._channel()
            try:
                declared = await channel.declare_queue(queue, passive=True)
            except ChannelClosed:
                return 0
            await channel.close()
            return int(declared.declaration_result.message_count or 0)

        return self._call(work())

    def exists(self, queue: str) -> bool:
        """Whether there is such a queue."""

        async def work() -> bool:
            channel = await self._channel()
            try:
                await channel.declare_queue(queue, passive=True)
            except ChannelClosed:
                return False
            await channel.close()
            return True

        return self._call(work())

    def take(self, queue: str) -> list[AbstractIncomingMessage]:
        """All messages of a queue, taken out of it."""

        async def work() -> list[AbstractIncomingMessage]:
            channel = await self._channel()
            taken: list[AbstractIncomingMessage] = []
            try:
                source = await channel.declare_queue(queue, passive=True)
                while True:
                    taken.append(await source.get(no_ack=True))
            except ChannelClosed:
                return taken
            except QueueEmpty:
                await channel.close()
                return taken

        return self._call(work())

    def declare(self, queue: str, arguments: dict[str, Any], *, bind: tuple[str, str] | None = None) -> None:
        """Declare a durable queue, and bind it to a topic exchange with a key."""

        async def work() -> None:
            async with await self._channel() as channel:
                declared = await channel.declare_queue(queue, durable=True, arguments=arguments)
                if bind is not None:
                    exchange = await channel.declare_exchange(bind[0], "topic", durable=True)
                    await declared.bind(exchange, bind[1])

        self._call(work())

    def prepare(self, queue: Queue) -> None:
        """Declare a consumer's queue with all that belongs to it, as the consumer does."""

        async def work() -> None:
            async with await self._channel() as channel:
                await topology.declare(channel, queue)

        self._call(work())

    def delete(self, *queues: str) -> None:
        """Delete queues, whether they are there or not. Not aio-pika's `delete`, which asks for an unused
        queue: RabbitMQ 4 closes the connection over that.
        """

        async def work() -> None:
            async with await self._channel() as channel:
                underlay = await channel.get_underlay_channel()
                for queue in queues:
                    await underlay.queue_delete(queue)

        self._call(work())

    def delete_exchange(self, *exchanges: str) -> None:
        """Delete exchanges, whether they are there or not."""

        async def work() -> None:
            async with await self._channel() as channel:
                underlay = await channel.get_underlay_channel()
                for exchange in exchanges:
                    await underlay.exchange_delete(exchange)

        self._call(work())

    def close(self) -> None:
        """Close the connection and end the thread."""

        async def work() -> None:
            if self._connection is not None:
                await self._connection.close()

        self._call(work())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

"""FastStream on Redis Streams with a consumer group.

Chosen for throughput, from its documentation and source (0.7.8): `max_workers` handles messages
concurrently, `max_records` reads 100 at once, `AckPolicy.ACK` acknowledges after the handler; the logger,
which writes two lines for each message, is off. Batch mode would acknowledge once per batch, but hands the
handler a list, which is other work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from faststream.middlewares import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from redis.asyncio import Redis

from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC, Work

BATCH = 100
SILENT: Any = None  # no logger, which the signature does not mention


async def consume(spec: Spec, meter: Meter) -> None:
    """Start the broker and let it work."""
    broker = RedisBroker(spec.redis_url, logger=SILENT)
    stream = StreamSub(TOPIC, group=CONSUMER, consumer="me", max_records=BATCH)
    subscriber = broker.subscriber(stream=stream, max_workers=spec.concurrency, ack_policy=AckPolicy.ACK)
    subscriber(no_op(meter) if spec.task == "noop" else service_write(meter))
    await broker.start()
    await meter.finished.wait()
    await broker.stop()


def no_op(meter: Meter) -> Callable[[Work], Awaitable[None]]:
    """A handler that does nothing."""

    async def handle(work: Work) -> None:
        meter.done(work.at)

    return handle


def service_write(meter: Meter) -> Callable[[Work], Awaitable[None]]:
    """A handler that calls a service."""
    from benchmarks.writing import write

    async def handle(work: Work) -> None:
        await write(str(work.order_id), work.order_id)
        meter.done(work.at)

    return handle


class Publisher:
    """FastStream's own publisher, through a pipeline."""

    def __init__(self, spec: Spec) -> None:
        self._broker = RedisBroker(spec.redis_url, logger=SILENT)
        self._client = Redis.from_url(spec.redis_url)
        self._connected = False

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`. A group that FastStream made would start at the end."""
        if not self._connected:
            await self._broker.connect()
            await self._client.xgroup_create(TOPIC, CONSUMER, id="0", mkstream=True)
            self._connected = True
        async with self._client.pipeline(transaction=False) as pipe:
            for work in batch:
                await self._broker.publish(work, stream=TOPIC, pipeline=pipe)
            await pipe.execute()

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._broker.stop()
        await self._client.aclose()

"""FastStream on a quorum queue.

Chosen for throughput, from its documentation and source (0.7.8): a prefetch of 100, which is as many handlers
at once; `AckPolicy.ACK` acknowledges after the handler; the logger, which writes two lines for each message,
is off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from faststream.middlewares import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from benchmarks.meter import Meter
from benchmarks.spec import PREFETCH, Spec
from benchmarks.work import CONSUMER, Work

SILENT: Any = None  # no logger, which the signature does not mention
QUEUE = RabbitQueue(CONSUMER, queue_type=QueueType.QUORUM)


async def consume(spec: Spec, meter: Meter) -> None:
    """Start the broker and let it work."""
    channel = Channel(prefetch_count=PREFETCH)
    broker = RabbitBroker(spec.rabbit_url, default_channel=channel, logger=SILENT)
    subscriber = broker.subscriber(QUEUE, ack_policy=AckPolicy.ACK)
    subscriber(no_op(meter) if spec.task == "noop" else service_write(meter, spec.concurrency))
    await broker.start()
    await meter.finished.wait()
    await broker.stop()


def no_op(meter: Meter) -> Callable[[Work], Awaitable[None]]:
    """A handler that does nothing."""

    async def handle(work: Work) -> None:
        meter.done(work.at)

    return handle


def service_write(meter: Meter, concurrency: int) -> Callable[[Work], Awaitable[None]]:
    """A handler that calls a service, as many at once as our consumer has slots."""
    from benchmarks.writing import write

    slots = asyncio.Semaphore(concurrency)

    async def handle(work: Work) -> None:
        async with slots:
            await write(str(work.order_id), work.order_id)
        meter.done(work.at)

    return handle


class Publisher:
    """FastStream's own publisher, several messages at once."""

    def __init__(self, spec: Spec) -> None:
        self._broker = RabbitBroker(spec.rabbit_url, logger=SILENT)
        self._connected = False

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        if not self._connected:
            await self._broker.start()
            await self._broker.declare_queue(QUEUE)
            self._connected = True
        await asyncio.gather(*[self._broker.publish(work, queue=QUEUE, persist=True) for work in batch])

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._broker.stop()

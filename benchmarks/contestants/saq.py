"""SAQ on Redis. It has an environment of its own, because it wants an older redis than the templates.

Chosen for throughput, from its documentation and source (0.26.4): `concurrency` jobs at once;
`max_concurrent_ops` raised to the same number, since its default of 20 holds back the fetching of jobs.
SAQ has no streams: a job is moved to the list of active ones and removed when it is done, which is its
acknowledgement after the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from saq import Queue, Worker

from benchmarks.doing import doing
from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, Work

JOB = "work"


def queue_for(spec: Spec) -> Any:
    """The queue, for both sides."""
    return Queue.from_url(spec.redis_url, name=CONSUMER, max_concurrent_ops=spec.concurrency)


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the worker until all jobs are done."""
    queue = queue_for(spec)
    handle = no_op(meter) if spec.task == "noop" else works(meter, spec.task)
    worker = Worker[Any](queue, [(JOB, handle)], concurrency=spec.concurrency)
    running = asyncio.create_task(worker.start())
    await meter.finished.wait()
    await worker.stop()
    await running
    await queue.disconnect()


def no_op(meter: Meter) -> Callable[..., Awaitable[None]]:
    """A job that does nothing."""

    async def handle(_: Any, *, order_id: int, at: float) -> None:  # noqa: ARG001  # jobs are called by name
        meter.done(at)

    return handle


def works(meter: Meter, what: str) -> Callable[..., Awaitable[None]]:
    """A job that does something."""
    do = doing(what)

    async def handle(_: Any, *, order_id: int, at: float) -> None:
        await do(str(order_id), order_id)
        meter.done(at)

    return handle


class Publisher:
    """SAQ's own client, several jobs at once."""

    def __init__(self, spec: Spec) -> None:
        self._queue = queue_for(spec)

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        await asyncio.gather(*[self._queue.enqueue(JOB, order_id=w.order_id, at=w.at) for w in batch])

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._queue.disconnect()

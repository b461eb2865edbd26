"""dramatiq on Redis: eight threads in a process, its default; async actors with its middleware `AsyncIO`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.asyncio import AsyncIO

from benchmarks.contestants.rabbit_dramatiq import THREADS, no_op, nothing, service_write
from benchmarks.spec import Spec
from benchmarks.threads import FromThreads
from benchmarks.work import CONSUMER, Work


def broker_for(spec: Spec) -> Any:
    """The broker, for both sides."""
    broker = RedisBroker(url=spec.redis_url)
    broker.add_middleware(AsyncIO())
    return broker


async def consume(spec: Spec, meter: Any) -> None:
    """Run a worker until it is killed."""
    broker, shared = broker_for(spec), FromThreads(meter)
    handle: Any = no_op(shared) if spec.task == "noop" else service_write(shared)
    dramatiq.actor(handle, broker=broker, queue_name=CONSUMER, actor_name=CONSUMER)
    dramatiq.Worker(broker, worker_threads=THREADS).start()
    await asyncio.Event().wait()


class Publisher:
    """dramatiq's own client."""

    def __init__(self, spec: Spec) -> None:
        self._broker = broker_for(spec)
        self._actor = dramatiq.actor(nothing, broker=self._broker, queue_name=CONSUMER, actor_name=CONSUMER)

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        for work in batch:
            self._actor.send(work.order_id, work.at)

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        self._broker.close()

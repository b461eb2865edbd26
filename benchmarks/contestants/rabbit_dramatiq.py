"""dramatiq on a quorum queue; handlers run in threads.

Chosen for throughput, from its documentation and source (2.2): eight threads, its default, which take more
messages than fewer or more of them do; a prefetch of 100; the middleware `AsyncIO`, which runs async actors
on an event loop of their own, for services that are async. A message is acknowledged when its actor has
ended. Its broker knows no quorum queues, so their argument is added here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.meter import Meter
from benchmarks.spec import PREFETCH, Spec
from benchmarks.threads import FromThreads
from benchmarks.work import CONSUMER, Work

os.environ["dramatiq_queue_prefetch"] = str(PREFETCH)  # noqa: SIM112  # read when dramatiq is imported

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware.asyncio import AsyncIO

THREADS = 8


class Quorum(RabbitmqBroker):  # type: ignore[misc]  # dramatiq is not installed where types are checked
    """A broker with quorum queues."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


def broker_for(spec: Spec) -> Any:
    """The broker, for both sides."""
    broker = Quorum(url=spec.rabbit_url, confirm_delivery=False)
    broker.add_middleware(AsyncIO())
    return broker


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the worker until all messages are done."""
    broker = broker_for(spec)
    shared = FromThreads(meter)
    handle: Callable[..., Any] = no_op(shared) if spec.task == "noop" else service_write(shared)
    dramatiq.actor(handle, broker=broker, queue_name=CONSUMER, actor_name=CONSUMER)
    worker = dramatiq.Worker(broker, worker_threads=THREADS if spec.task == "noop" else spec.concurrency)
    worker.start()
    await meter.finished.wait()
    await asyncio.to_thread(worker.stop)


def no_op(meter: FromThreads) -> Callable[[int, float], None]:
    """An actor that does nothing."""

    def handle(order_id: int, at: float) -> None:  # noqa: ARG001  # the payload
        meter.done(at)

    return handle


def service_write(meter: FromThreads) -> Callable[[int, float], Any]:
    """An actor that calls a service."""
    from benchmarks.writing import write

    async def handle(order_id: int, at: float) -> None:
        await write(str(order_id), order_id)
        meter.done(at)

    return handle


class Publisher:
    """dramatiq's own client, in a thread. It does not wait for confirmations unless it is told to."""

    def __init__(self, spec: Spec) -> None:
        self._broker = broker_for(spec)
        self._actor = dramatiq.actor(nothing, broker=self._broker, queue_name=CONSUMER, actor_name=CONSUMER)

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        self._send(batch)

    def _send(self, batch: Sequence[Work]) -> None:
        for work in batch:
            self._actor.send(work.order_id, work.at)

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        self._broker.close()


def nothing(order_id: int, at: float) -> None:
    """The signature of the actor, for the side that only sends."""

"""taskiq with taskiq-redis' stream broker, the one of its brokers that acknowledges.

Chosen for throughput, from their source (taskiq 0.13, taskiq-redis 1.2): `max_async_tasks` handles tasks
concurrently, `max_prefetch` has as many waiting, acknowledgement when the task was executed, no result
backend. Reads of 100 entries are the broker's default. `run_receiver_task` is the worker without the
process that watches over it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from benchmarks.doing import doing
from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import TOPIC, Work

TASK = "bench:work"


def broker_for(spec: Spec) -> RedisStreamBroker:
    """The group begins at the first entry; taskiq-redis' default is what comes after its start."""
    return RedisStreamBroker(spec.redis_url, queue_name=TOPIC, consumer_id="0")


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the receiver until all tasks are done."""
    broker = broker_for(spec)
    broker.register_task(no_op(meter) if spec.task == "noop" else works(meter, spec.task), task_name=TASK)
    receiver = asyncio.create_task(
        run_receiver_task(
            broker,
            max_async_tasks=spec.concurrency,
            max_prefetch=spec.concurrency,
            ack_time=AcknowledgeType.WHEN_EXECUTED,
            run_startup=True,
        )
    )
    await meter.finished.wait()
    receiver.cancel()
    with suppress(asyncio.CancelledError):
        await receiver
    await broker.shutdown()


def no_op(meter: Meter) -> Callable[[int, float], Awaitable[None]]:
    """A task that does nothing."""

    async def handle(order_id: int, at: float) -> None:  # noqa: ARG001  # tasks are called by name
        meter.done(at)

    return handle


def works(meter: Meter, what: str) -> Callable[[int, float], Awaitable[None]]:
    """A task that does something."""
    do = doing(what)

    async def handle(order_id: int, at: float) -> None:
        await do(str(order_id), order_id)
        meter.done(at)

    return handle


class Publisher:
    """taskiq's own client, several tasks at once."""

    def __init__(self, spec: Spec) -> None:
        self._broker = broker_for(spec)
        self._task = self._broker.register_task(nothing, task_name=TASK)

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        await asyncio.gather(*[self._task.kiq(order_id=work.order_id, at=work.at) for work in batch])

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._broker.shutdown()


async def nothing(order_id: int, at: float) -> None:
    """The signature of the task, for the side that only sends it."""

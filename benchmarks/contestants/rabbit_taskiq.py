"""taskiq with taskiq-aio-pika, on a quorum queue.

Chosen for throughput, from their source (taskiq 0.13, taskiq-aio-pika 0.6): `qos` of 100 messages,
`max_async_tasks` of them at once, acknowledgement when the task was executed, no result backend.
`run_receiver_task` is the worker without the process that watches over it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue

from benchmarks.contestants.taskiq import TASK, no_op, nothing, works
from benchmarks.meter import Meter
from benchmarks.spec import PREFETCH, Spec
from benchmarks.work import CONSUMER, Work


def broker_for(spec: Spec) -> AioPikaBroker:
    """Its queues are quorum queues by default."""
    return AioPikaBroker(spec.rabbit_url, qos=PREFETCH).with_queue(Queue(name=CONSUMER))


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the receiver until all tasks are done."""
    broker = broker_for(spec)
    broker.is_worker_process = True
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


class Publisher:
    """taskiq's own client, several tasks at once."""

    def __init__(self, spec: Spec) -> None:
        self._broker = broker_for(spec)
        self._task = self._broker.register_task(nothing, task_name=TASK)
        self._started = False

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        if not self._started:
            await self._broker.startup()
            self._started = True
        await asyncio.gather(*[self._task.kiq(order_id=work.order_id, at=work.at) for work in batch])

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._broker.shutdown()

"""Our consumer with a batch handler that calls the service for each message: only transactions are saved."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.batch import on_batch
from app.core.consumer import Consumer
from app.core.envelope import Message
from app.core.lifecycle import supervise
from app.core.rabbit_consumer import RabbitConsumer
from app.core.worker_settings import worker_settings
from app.services.orders import OrderService
from benchmarks.contestants.ours import counted
from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC, TYPE, Work

BATCH = 100
HandleAll = Callable[[Sequence[Message[Work]], AsyncSession], Awaitable[None]]


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the worker until all messages are done."""
    await run(spec, meter, process_each)


async def run(_: Spec, meter: Meter, handle: HandleAll) -> None:
    """Run the worker with `handle` until all messages are done. A batch is gathered in as many slots, which
    need no database connections of their own; the next one is fetched meanwhile.
    """
    os.environ |= {"WORKER_CONCURRENCY": str(BATCH), "RABBITMQ_PREFETCH": str(2 * BATCH)}
    route = on_batch(TYPE, Work, handle, most=BATCH)
    route = replace(route, process=counted(route.process, meter))
    worker = RabbitConsumer(Consumer(CONSUMER, TOPIC, (route,)))
    running = asyncio.create_task(supervise([worker], worker_settings()))
    await meter.finished.wait()
    signal.raise_signal(signal.SIGTERM)
    await running


async def process_each(messages: Sequence[Message[Work]], session: AsyncSession) -> None:
    """The service as it is, message after message."""
    for message in messages:
        await OrderService(session).process(message.data.order_id)

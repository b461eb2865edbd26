"""The templates as they are: `StreamConsumer` under `supervise`, handlers registered with `on`."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, Route, on, on_without_transaction
from app.core.envelope import Message
from app.core.inbox import Process
from app.core.lifecycle import supervise
from app.core.outcomes import Done, Outcome
from app.core.stream_consumer import StreamConsumer
from app.core.worker_settings import worker_settings
from app.services.orders import OrderService
from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC, TYPE, Work


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the worker until all messages are done, then end it by the signal that a platform sends."""
    route = no_op(meter) if spec.task == "noop" else service_write(meter)
    worker = StreamConsumer(Consumer(CONSUMER, TOPIC, (route,)))
    running = asyncio.create_task(supervise([worker], worker_settings()))
    await meter.finished.wait()
    signal.raise_signal(signal.SIGTERM)
    await running


def no_op(meter: Meter) -> Route:
    """A handler that does nothing."""

    async def handle(message: Message[Work]) -> Outcome:
        meter.done(message.data.at)
        return Done()

    return on_without_transaction(TYPE, Work, handle)


def service_write(meter: Meter) -> Route:
    """A handler that calls a service; the message is done when its transaction is committed."""

    async def handle(message: Message[Work], session: AsyncSession) -> Outcome:
        await OrderService(session).process(message.data.order_id)
        return Done()

    route = on(TYPE, Work, handle)
    return replace(route, process=counted(route.process, meter))


def counted(process: Process, meter: Meter) -> Process:
    """Tell `meter` when `process` has committed."""

    async def counting(message: Message[Any], timeout: float) -> Outcome:
        outcome = await process(message, timeout)
        meter.done(message.data.at)
        return outcome

    return counting

"""The templates as they are: `RabbitConsumer` under `supervise`, handlers registered with `on`."""

from __future__ import annotations

import asyncio
import signal

from app.core.consumer import Consumer
from app.core.lifecycle import supervise
from app.core.rabbit_consumer import RabbitConsumer
from app.core.worker_settings import worker_settings
from benchmarks.contestants.ours import no_op, service_write
from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the worker until all messages are done, then end it by the signal that a platform sends."""
    route = no_op(meter) if spec.task == "noop" else service_write(meter)
    worker = RabbitConsumer(Consumer(CONSUMER, TOPIC, (route,)))
    running = asyncio.create_task(supervise([worker], worker_settings()))
    await meter.finished.wait()
    signal.raise_signal(signal.SIGTERM)
    await running

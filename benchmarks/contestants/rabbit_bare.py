"""The least that can be written with aio-pika: no deadline, no validation, no retry, no reconnecting.

A callback for each message, up to the prefetch at once, and an acknowledgement after the work. It is the
ceiling that the templates are measured against; `async for` over a queue takes half as many.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.meter import Meter
from benchmarks.spec import PREFETCH, Spec
from benchmarks.work import CONSUMER

Handle = Callable[[Any], Awaitable[None]]


async def consume(spec: Spec, meter: Meter) -> None:
    """Consume until all messages are done."""
    handle = no_op(meter) if spec.task == "noop" else service_write(meter, spec.concurrency)

    async def on_message(message: AbstractIncomingMessage) -> None:
        await handle(json.loads(message.body))
        await message.ack()

    connection = await aio_pika.connect(spec.rabbit_url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.get_queue(CONSUMER)
    await queue.consume(on_message)
    await meter.finished.wait()
    await connection.close()


def no_op(meter: Meter) -> Handle:
    """A handler that does nothing."""

    async def handle(event: Any) -> None:
        meter.done(event["data"]["at"])

    return handle


def service_write(meter: Meter, concurrency: int) -> Handle:
    """A handler that calls a service, as many at once as our consumer has slots."""
    from benchmarks.writing import write

    slots = asyncio.Semaphore(concurrency)

    async def handle(event: Any) -> None:
        async with slots:
            await write(f"{event['source']} {event['id']}", event["data"]["order_id"])
        meter.done(event["data"]["at"])

    return handle

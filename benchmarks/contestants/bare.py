"""The least that can be written: no lease, no deadline, no validation, no retry, no way to stop.

It is the ceiling that the templates are measured against, not something to run. Its handler gets a decoded
message, as every contestant's does; `bare_bytes` leaves out that as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.asyncio import Redis

from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC

BATCH = 100
Entries = list[tuple[bytes, Mapping[bytes, bytes]]]
HandleAll = Callable[[Entries], Awaitable[None]]


async def consume(spec: Spec, meter: Meter) -> None:
    """Read a batch, handle each entry, acknowledge the batch."""
    await loop(spec, meter, no_ops(meter) if spec.task == "noop" else writes(meter, spec.concurrency))


def no_ops(meter: Meter) -> HandleAll:
    """A handler that does nothing, one entry after the other."""

    async def handle_all(entries: Entries) -> None:
        for _, fields in entries:
            await handle(json.loads(fields[b"event"]))

    async def handle(event: Mapping[str, Mapping[str, float]]) -> None:
        meter.done(event["data"]["at"])

    return handle_all


def writes(meter: Meter, concurrency: int) -> HandleAll:
    """A handler that calls a service, as many at once as our consumer has slots."""
    from benchmarks.writing import write

    slots = asyncio.Semaphore(concurrency)

    async def handle_all(entries: Entries) -> None:
        await asyncio.gather(*[handle(json.loads(fields[b"event"])) for _, fields in entries])

    async def handle(event: Mapping[str, Mapping[str, int]]) -> None:
        async with slots:
            await write(f"{event['source']} {event['id']}", event["data"]["order_id"])
        meter.done(event["data"]["at"])

    return handle_all


async def loop(spec: Spec, meter: Meter, handle_all: HandleAll) -> None:
    """XREADGROUP, work, XACK, until all messages are done."""
    client = Redis.from_url(spec.redis_url, socket_timeout=10)
    while not meter.finished.is_set():
        answer: Any = await client.xreadgroup(CONSUMER, "me", {TOPIC: ">"}, count=BATCH, block=1000)
        for _, entries in answer:
            await handle_all(entries)
            await client.xack(TOPIC, CONSUMER, *[id_ for id_, _ in entries])
    await client.aclose()

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
from benchmarks.work import CONSUMER, TOPIC, write

BATCH = 100
Entries = list[tuple[bytes, Mapping[bytes, bytes]]]


async def consume(spec: Spec, meter: Meter) -> None:
    """Read a batch, handle each entry, acknowledge the batch."""
    slots = asyncio.Semaphore(spec.concurrency)

    async def no_ops(entries: Entries) -> None:
        for _, fields in entries:
            await no_op(json.loads(fields[b"event"]))

    async def no_op(event: Mapping[str, Mapping[str, float]]) -> None:
        meter.done(event["data"]["at"])

    async def writes(entries: Entries) -> None:
        await asyncio.gather(*[service_write(json.loads(fields[b"event"])) for _, fields in entries])

    async def service_write(event: Mapping[str, Mapping[str, int]]) -> None:
        async with slots:
            await write(f"{event['source']} {event['id']}", event["data"]["order_id"])
        meter.done(event["data"]["at"])

    await loop(spec, meter, no_ops if spec.task == "noop" else writes)


async def loop(spec: Spec, meter: Meter, handle_all: Callable[[Entries], Awaitable[None]]) -> None:
    """XREADGROUP, work, XACK, until all messages are done."""
    client = Redis.from_url(spec.redis_url, socket_timeout=10)
    while not meter.finished.is_set():
        answer: Any = await client.xreadgroup(CONSUMER, "me", {TOPIC: ">"}, count=BATCH, block=1000)
        for _, entries in answer:
            await handle_all(entries)
            await client.xack(TOPIC, CONSUMER, *[id_ for id_, _ in entries])
    await client.aclose()

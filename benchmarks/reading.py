"""Follows jobs through an API, one connection each, and writes their events.

    python -m benchmarks.reading HOST:PORT READERS EVENTS PAUSE

DATABASE_URL is where the jobs are, running, one for each reader, with ids that count from 1. Each of them
gets an event every PAUSE seconds, EVENTS times. As many jobs as one worker runs by default get theirs at
once, in one statement; the workers take turns. Prints JSON: seconds from before the write to the reader.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
import uuid
from typing import Any

from sqlalchemy import text

from app.core.database import get_session
from app.core.job_events import DELTA, Record, write

CONNECTS_AT_ONCE = 50
PATIENCE_S = 30.0
A_WORKERS = 200  # jobs, see JOB_CONCURRENCY
# What autovacuum, which is off here, does within a minute: plans made for an empty table read all of it.
ANALYSE = text("ANALYZE job, job_event")
AT = re.compile(rb'"at": *([0-9.]+)')


class Reader(asyncio.Protocol):
    """Looks for times in what comes."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays
        self._rest = b""
        self.ready = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.ready.set()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if found := AT.search(line):
                self._delays.append(now - float(found[1]))


async def open_one(place: str, id_: uuid.UUID, delays: list[float], slots: asyncio.Semaphore) -> None:
    """Connect, and wait until the stream has begun."""
    host, _, port = place.partition(":")
    async with slots:
        loop = asyncio.get_running_loop()
        transport: Any
        transport, reader = await loop.create_connection(lambda: Reader(delays), host, int(port))
        transport.write(f"GET /jobs/{id_}/events HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        await asyncio.wait_for(reader.ready.wait(), PATIENCE_S)


async def tell(ids: list[uuid.UUID], number: int) -> None:
    """Write an event of each job in one statement, as their worker does."""
    data = json.dumps({"text": "Once upon a time. ", "at": time.monotonic()})
    async with get_session() as session:
        await write(session, [Record(id_, 1, 1_000_000_000 + number, DELTA, data) for id_ in ids])


async def main(place: str, readers: int, events: int, pause: float) -> None:
    """Follow, write, print."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ids = [uuid.UUID(int=number) for number in range(1, readers + 1)]
    delays: list[float] = []
    slots = asyncio.Semaphore(CONNECTS_AT_ONCE)
    await asyncio.gather(*[open_one(place, id_, delays, slots) for id_ in ids])
    await tell(ids, 0)  # a window is open for each then
    await until(delays, readers)
    async with get_session() as session:
        await session.execute(ANALYSE)
    delays.clear()
    begin = time.monotonic()
    workers = [ids[first : first + A_WORKERS] for first in range(0, readers, A_WORKERS)]
    for turn in range(events * len(workers)):
        await asyncio.sleep(max(0.0, begin + turn * pause / len(workers) - time.monotonic()))
        await tell(workers[turn % len(workers)], turn // len(workers) + 1)
    await until(delays, events * readers)
    sys.stdout.write(json.dumps(delays) + "\n")


async def until(delays: list[float], number: int) -> None:
    """Wait until so many events have come, or for as long as anybody would."""
    ends = time.monotonic() + PATIENCE_S
    while len(delays) < number and time.monotonic() < ends:
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

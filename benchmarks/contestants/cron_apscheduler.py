"""APScheduler alone, in memory: no other process may run it, and what dies is lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from apscheduler.schedulers.asyncio import AsyncIOScheduler

if TYPE_CHECKING:
    from benchmarks.ticks import Lags, TickSpec


async def run(spec: TickSpec, lags: Lags) -> None:
    """Run the scheduler until all is measured."""

    async def job() -> None:
        lags.begun(float(int(time.time())))  # it does not say when it was due; here on a whole second

    scheduler = AsyncIOScheduler(timezone="UTC", job_defaults={"misfire_grace_time": 60})
    first = datetime.fromtimestamp(int(time.time()) + 1, UTC)
    for _ in range(spec.jobs):
        scheduler.add_job(job, "interval", seconds=1, start_date=first)
    scheduler.start()
    await lags.ended.wait()
    scheduler.shutdown()

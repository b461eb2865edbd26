"""The templates: each tick is a row, and each run a transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from app.core.cron_job import CronJob, Tick
from app.core.cron_scheduler import CronScheduler
from app.core.interval import Every

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from benchmarks.ticks import Lags, TickSpec


async def run(spec: TickSpec, lags: Lags) -> None:
    """Run the scheduler until all is measured."""

    async def job(tick: Tick, _: AsyncSession) -> None:
        lags.begun(tick.due_at.timestamp())

    every = Every(timedelta(seconds=1))
    jobs = [CronJob(f"bench_{number:03}", every, job, overlap="wait") for number in range(spec.jobs)]
    await CronScheduler(jobs).run(lags.ended)

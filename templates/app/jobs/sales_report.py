"""Cron job: calls `ReportService.daily_sales`."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron import Cron
from app.core.cron_job import CronJob, Tick
from app.core.outcomes import Done, Outcome
from app.services.reports import ReportService


async def run(tick: Tick, session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this run has succeeded."""
    await ReportService(session).daily_sales(
        day=tick.due_at.date() - timedelta(days=1),
    )
    return Done()


job = CronJob(
    name="sales_report",
    schedule=Cron("30 2 * * *", "Europe/Berlin"),
    run=run,
    catch_up="all",
    within=timedelta(days=7),
)

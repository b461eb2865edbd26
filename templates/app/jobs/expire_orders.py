"""Cron job: calls `OrderService.expire_unpaid`."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron_job import CronJob, Tick
from app.core.interval import Every
from app.core.outcomes import Done, Outcome
from app.services.orders import OrderService


async def run(tick: Tick, session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this run has succeeded."""
    await OrderService(session).expire_unpaid(
        older_than=timedelta(hours=24),
        now=tick.due_at,
    )
    return Done()


job = CronJob(
    name="expire_orders",
    schedule=Every(timedelta(minutes=5)),
    run=run,
    deadline=timedelta(minutes=5),
)

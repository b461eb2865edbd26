"""Every hour: sends `shop.report.requested.v1` through the outbox, for consumers to do the work.

The message and the note that this run has succeeded are one transaction: a beat that neither forgets a tick
nor sends it twice, however many schedulers there are.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron import Cron
from app.core.cron_job import CronJob, Tick
from app.core.outbox import enqueue
from app.core.outcomes import Done, Outcome


class ReportRequested(BaseModel):
    """Payload of `shop.report.requested.v1`."""

    due_at: datetime


async def run(tick: Tick, session: AsyncSession) -> Outcome:
    """Enqueue; the relay sends what is committed."""
    request = ReportRequested(due_at=tick.due_at)
    id_ = uuid.UUID(tick.idempotency_key)
    await enqueue(session, "shop.report.requested.v1", request, message_id=id_)
    return Done()


job = CronJob(name="report_request", schedule=Cron("0 * * * *", "UTC"), run=run)

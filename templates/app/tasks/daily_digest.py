"""By Celery's beat: every morning at six (UTC) a message `mail.invoice.v1`, for the task `mail.invoice`.

    celery -A app.core.celery_app beat --schedule /var/lib/shop/beat

One beat, not two: it has no lock. While there is none, and while the broker is away, ticks are lost. A cron
job of `app.jobs` has neither flaw.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from celery.app.task import Task
from celery.schedules import crontab

from app.core.celery_app import celery_app
from app.core.celery_loop import run
from app.core.database import get_session
from app.core.failures import classify
from app.core.outbox import enqueue
from app.core.outcomes import Dead
from app.tasks.invoice_email import InvoiceEmail

NAME = "beat.daily_digest"
PAUSE, TRIES = 30, 20


@celery_app.task(name=NAME, bind=True, max_retries=TRIES)
def daily_digest(self: Task[Any, None]) -> None:
    """A tick. It does no work: it enqueues, and what it enqueues is not lost any more."""
    try:
        run(tick, datetime.now(UTC))
    except Exception as error:
        if isinstance(classify(error), Dead):
            raise
        raise self.retry(exc=error, countdown=PAUSE) from error


async def tick(now: datetime) -> None:
    """Enqueue. Two ticks on one day are two deliveries of one message, which are handled once."""
    id_ = uuid.uuid5(uuid.NAMESPACE_URL, f"{NAME} {now.date()}")
    async with get_session() as session:
        digest = InvoiceEmail(user_id=1, email_type="digest")
        await enqueue(session, "mail.invoice.v1", digest, message_id=id_)


celery_app.add_periodic_task(crontab(hour=6, minute=0), daily_digest.s(), name=NAME, expires=12 * 3600)

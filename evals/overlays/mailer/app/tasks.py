"""Celery."""

import asyncio
import os

from celery import Celery

from app.core.database import engine, get_session
from app.services.bookings import BookingService

celery = Celery("bookings", broker=os.environ["CELERY_BROKER_URL"])


async def send(booking_id: int) -> None:
    """Mail the guest."""
    async with get_session() as session:
        await BookingService(session).send_confirmation(booking_id)
    await engine.dispose()


@celery.task
def send_confirmation(booking_id: int) -> None:
    """Mail the guest."""
    asyncio.run(send(booking_id))

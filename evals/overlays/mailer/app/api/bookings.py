"""Routes of bookings."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import db
from app.models.bookings import Booking
from app.services.bookings import BookingService
from app.tasks import send_confirmation

router = APIRouter(prefix="/bookings")
Session = Annotated[AsyncSession, Depends(db, scope="function")]


class BookingIn(BaseModel):
    """A new booking."""

    guest_email: str
    room: str
    amount_cents: int


@router.post("", status_code=201)
async def book(body: BookingIn, session: Session) -> dict[str, Any]:
    """Hold a room."""
    booking = Booking(**body.model_dump())
    session.add(booking)
    await session.flush()
    return {"id": booking.id}


@router.post("/{booking_id}/confirm")
async def confirm(booking_id: int, session: Session) -> dict[str, Any]:
    """Confirm, and tell the guest."""
    service = BookingService(session)
    booking = await service.confirm(booking_id)
    send_confirmation.delay(booking_id)
    return {"id": booking.id, "status": booking.status}

"""Tables of bookings."""

from datetime import datetime

from sqlalchemy import DateTime, ForeignKey, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Booking(Base):
    """A room, held for a guest; status is held, paid or confirmed."""

    __tablename__ = "booking"

    id: Mapped[int] = mapped_column(primary_key=True)
    guest_email: Mapped[str] = mapped_column(Text)
    room: Mapped[str] = mapped_column(Text)
    amount_cents: Mapped[int]
    status: Mapped[str] = mapped_column(Text, server_default="held")
    payment_reference: Mapped[str | None] = mapped_column(Text)


class BookingNote(Base):
    """The history of a booking; accounting reads it, line by line."""

    __tablename__ = "booking_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    booking_id: Mapped[int] = mapped_column(ForeignKey("booking.id"), index=True)
    what: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Occupancy(Base):
    """How many bookings there were at a moment; the dashboard adds these up."""

    __tablename__ = "occupancy"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    bookings: Mapped[int]

"""What can be done with bookings."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.bookings import Booking, BookingNote, Occupancy
from app.services.mail import send_mail


class UnknownBookingError(Exception):
    """There is no such booking."""


class BookingService:
    """Bookings, in the transaction of the session."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, booking_id: int) -> Booking:
        """Find a booking; UnknownBookingError without one."""
        booking = await self.session.get(Booking, booking_id)
        if booking is None:
            raise UnknownBookingError(f"booking {booking_id}")
        return booking

    async def mark_paid(self, booking_id: int, payment_reference: str) -> Booking:
        """The guest has paid."""
        booking = await self.get(booking_id)
        booking.status, booking.payment_reference = "paid", payment_reference
        self.session.add(BookingNote(booking_id=booking_id, what="paid"))
        return booking

    async def confirm(self, booking_id: int) -> Booking:
        """The house confirms."""
        booking = await self.get(booking_id)
        booking.status = "confirmed"
        self.session.add(BookingNote(booking_id=booking_id, what="confirmed"))
        return booking

    async def send_confirmation(self, booking_id: int, *, idempotency_key: str | None = None) -> None:
        """Mail the guest. The provider sends once per key, and on each call without one."""
        booking = await self.get(booking_id)
        text = f"Your booking {booking_id} of room {booking.room} is confirmed."
        await send_mail(booking.guest_email, "Confirmed", text, idempotency_key=idempotency_key)

    async def count_occupancy(self) -> Occupancy:
        """Write down how many bookings there are."""
        number = await self.session.scalar(select(func.count()).select_from(Booking))
        row = Occupancy(bookings=number or 0)
        self.session.add(row)
        return row

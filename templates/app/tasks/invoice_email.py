"""Task `mail.invoice`: calls `EmailService.send`."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.celery_task import plain_task
from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Done, Outcome
from app.services.emails import EmailService


class InvoiceEmail(BaseModel):
    """Payload of `mail.invoice.v1`."""

    user_id: int
    email_type: str


async def handle(message: Message[InvoiceEmail], session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this message is done."""
    await EmailService(session).send(
        user_id=message.data.user_id,
        email_type=message.data.email_type,
        idempotency_key=message.idempotency_key,
    )
    return Done()


consumer = Consumer(
    name="invoice_email",
    topic="mail.invoice",
    routes=(on("mail.invoice.v1", InvoiceEmail, handle),),
)

task = plain_task(consumer)

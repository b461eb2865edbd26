"""Job `shop.payment.process.v1`: calls `PaymentService.capture`.

job = await submit(session, process_payment, data, owner=str(user.id))
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.job import JobContext, job
from app.services.payments import PaymentService


class ProcessPayment(BaseModel):
    """Payload of `shop.payment.process.v1`."""

    order_id: int


@job("shop.payment.process.v1", ProcessPayment, deadline=timedelta(hours=1))
async def process_payment(context: JobContext[ProcessPayment], session: AsyncSession) -> None:
    """Call the service; what it writes commits together with the note that this job has succeeded. What is
    returned, a Pydantic model or a mapping, is the job's result.
    """
    await PaymentService(session).capture(
        order_id=context.data.order_id,
        idempotency_key=context.idempotency_key,
    )

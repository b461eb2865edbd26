"""Consumer of `shop.order.paid`: calls `OrderService.mark_paid`."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Done, Outcome
from app.core.stream_consumer import StreamConsumer
from app.services.orders import OrderService


class OrderPaid(BaseModel):
    """Payload of `shop.order.paid.v1`."""

    order_id: int
    payment_reference: str


async def handle(message: Message[OrderPaid], session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this message is done."""
    await OrderService(session).mark_paid(
        order_id=message.data.order_id,
        payment_reference=message.data.payment_reference,
    )
    return Done()


consumer = Consumer(
    name="order_paid",
    topic="shop.order.paid",
    routes=(on("shop.order.paid.v1", OrderPaid, handle),),
)


def worker() -> StreamConsumer:
    """What `python -m app.workers.run order_paid` runs."""
    return StreamConsumer(consumer)

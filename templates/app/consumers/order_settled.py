"""Consumer of what tills write, which is no CloudEvent: calls `OrderService.mark_paid`."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message, build
from app.core.foreign import Foreign
from app.core.outcomes import Done, Outcome
from app.core.stream_consumer import StreamConsumer
from app.services.orders import OrderService


class OrderSettled(BaseModel):
    """Payload of `shop.order.settled.v1`."""

    order_id: int
    payment_reference: str


def translate(message: Foreign) -> bytes:
    """What an entry of a till is. The id is the receipt's, the same however often the till sends it."""
    data = OrderSettled.model_validate(message.fields)  # of a body: model_validate_json(message.body)
    return build("shop.order.settled.v1", data, source="/tills", id_=message.fields["receipt"])


async def handle(message: Message[OrderSettled], session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this message is done."""
    await OrderService(session).mark_paid(
        order_id=message.data.order_id,
        payment_reference=message.data.payment_reference,
    )
    return Done()


consumer = Consumer(
    name="order_settled",
    topic="tills",
    routes=(on("shop.order.settled.v1", OrderSettled, handle),),
    translate=translate,
)


def worker() -> StreamConsumer:
    """What `python -m app.workers.run order_settled` runs."""
    return StreamConsumer(consumer)

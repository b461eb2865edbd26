"""Consumer of `shop.order.placed`: calls `EmailService.send`."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Done, Outcome
from app.core.rabbit_consumer import RabbitConsumer
from app.services.emails import EmailService


class OrderPlaced(BaseModel):
    """Payload of `shop.order.placed.v1`."""

    user_id: int
    email_type: str


async def handle(message: Message[OrderPlaced], session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this message is done."""
    await EmailService(session).send(
        user_id=message.data.user_id,
        email_type=message.data.email_type,
        idempotency_key=message.idempotency_key,
    )
    return Done()


consumer = Consumer(
    name="order_placed",
    topic="shop.order.placed",
    routes=(on("shop.order.placed.v1", OrderPlaced, handle),),
)


def worker() -> RabbitConsumer:
    """What `python -m app.workers.run order_placed` runs."""
    return RabbitConsumer(consumer)

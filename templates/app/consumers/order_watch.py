"""Publish/subscribe: a consumer of all that happens to orders, beside the consumers of single events.

Its queue is its own, so it gets every message whatever other consumers do, and what comes while it is down
waits for it. `*` is one word of a topic and `#` any number of them. A type that matches the pattern and is
neither routed nor skipped becomes a dead letter: whoever adds one has to think of this consumer.
"""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Done, Outcome
from app.core.rabbit_consumer import RabbitConsumer
from app.services.orders import OrderService


class OrderEvent(BaseModel):
    """What this consumer wants to know of `shop.order.paid.v1` and the like; other fields are ignored."""

    order_id: int


async def handle(message: Message[OrderEvent], session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this message is done."""
    await OrderService(session).process(message.data.order_id)
    return Done()


consumer = Consumer(
    name="order_watch",
    topic="shop.order.*",
    routes=(
        on("shop.order.paid.v1", OrderEvent, handle),
        on("shop.order.shipped.v1", OrderEvent, handle),
    ),
    skip=frozenset({"shop.order.cancelled.v1"}),
)


def worker() -> RabbitConsumer:
    """What `python -m app.workers.run order_watch` runs."""
    return RabbitConsumer(consumer)

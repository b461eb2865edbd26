"""Priority by queue: urgent orders have handlers of their own and never wait behind the others.

The sender chooses the lane by the topic:

    await enqueue(session, "shop.order.process.v1", data, topic="shop.order.process.high")
"""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Done, Outcome
from app.core.rabbit_priority import PriorityConsumer
from app.services.orders import OrderService

# Handlers of each lane; together no more than the database pool has connections.
LANES = {"high": 8, "low": 2}


class ProcessOrder(BaseModel):
    """Payload of `shop.order.process.v1`."""

    order_id: int


async def handle(message: Message[ProcessOrder], session: AsyncSession) -> Outcome:
    """Call the service; what it writes commits together with the note that this message is done."""
    await OrderService(session).process(message.data.order_id)
    return Done()


consumer = Consumer(
    name="order_process",
    topic="shop.order.process",
    routes=(on("shop.order.process.v1", ProcessOrder, handle),),
)


def worker() -> PriorityConsumer:
    """What `python -m app.workers.run order_process` runs."""
    return PriorityConsumer(consumer, LANES)

"""Request/reply: cancels an order and replies with what has become of it.

async with RpcClient() as rpc:  # app.core.rabbit_rpc; in FastAPI's lifespan, kept in `app.state`
    done = await rpc.call("rpc.order.cancel.v1", CancelOrder(order_id=7, reason="late"), OrderCancelled)
"""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer
from app.core.envelope import Message
from app.core.rabbit_rpc_server import RpcServer, answer
from app.services.orders import OrderService


class CancelOrder(BaseModel):
    """Payload of `rpc.order.cancel.v1`, the request."""

    order_id: int
    reason: str


class OrderCancelled(BaseModel):
    """Payload of `rpc.order.cancel.reply.v1`."""

    order_id: int
    status: str


async def handle(message: Message[CancelOrder], session: AsyncSession) -> OrderCancelled:
    """Call the service. The reply goes out when this is committed; the caller gets to know what is raised."""
    order = await OrderService(session).cancel(message.data.order_id, message.data.reason)
    return OrderCancelled(order_id=order.id, status=order.status)


consumer = Consumer(
    name="order_cancel",
    topic="rpc.order.cancel",
    routes=(answer("rpc.order.cancel.v1", CancelOrder, handle),),
)


def worker() -> RpcServer:
    """What `python -m app.workers.run order_cancel` runs."""
    return RpcServer(consumer)

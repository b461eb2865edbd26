"""Our consumer with a batch handler: two statements in one transaction for up to a hundred messages."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.envelope import Message
from app.models.orders import Order, OrderEvent, OrderStatus
from benchmarks.contestants.rabbit_bulk_each import run
from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import Work


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the worker until all messages are done."""
    await run(spec, meter, process_all)


async def process_all(messages: Sequence[Message[Work]], session: AsyncSession) -> None:
    """What `OrderService.process` does, for many orders: a service for batches has a method like this."""
    ids = [message.data.order_id for message in messages]
    await session.execute(update(Order).where(Order.id.in_(ids)).values(status=OrderStatus.PROCESSED))
    events = [{"order_id": id_, "kind": "processed", "detail": ""} for id_ in ids]
    await session.execute(insert(OrderEvent), events)

"""A subscriber for the tests of publish/subscribe: notes in an order's history that it got a message."""

import os
from typing import Any

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Done, Outcome
from app.core.rabbit_consumer import RabbitConsumer
from app.core.rabbit_topology import Queue
from app.repositories.orders import OrderRepository


class Event(BaseModel):
    """An event of an order."""

    order_id: int


async def handle(message: Message[Event], session: AsyncSession) -> Outcome:
    """The kind of the note is the name of the consumer."""
    await OrderRepository(session).add_event(message.data.order_id, message.consumer)
    return Done()


def worker() -> RabbitConsumer:
    """Name, binding and exchange come from the test."""
    name = os.environ["SUBSCRIBER_NAME"]
    kind: Any = os.environ.get("SUBSCRIBER_EXCHANGE_TYPE", "topic")
    queue = Queue(
        name,
        os.environ.get("SUBSCRIBER_BINDING", "shop.order.*"),
        os.environ.get("SUBSCRIBER_EXCHANGE", "events"),
        kind,
    )
    types = ("shop.order.paid.v1", "shop.order.shipped.v1", "shop.order.item.added.v1", "shop.news.v1")
    consumer = Consumer(name, queue.binding, tuple(on(type_, Event, handle) for type_ in types))
    return RabbitConsumer(consumer, queue=queue)

"""A batch consumer for the fault tests: a message says what goes wrong, a file notes each batch."""

import os
from collections.abc import Sequence

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.batch import on_batch
from app.core.consumer import Consumer
from app.core.envelope import Message
from app.core.outcomes import TransientError
from app.core.rabbit_consumer import RabbitConsumer
from app.core.stream_consumer import StreamConsumer
from app.models.orders import Order, OrderEvent, OrderStatus
from support.mischief import Work, misbehave, note

MOST = int(os.environ.get("FAULTY_MOST", "100"))


async def handle(messages: Sequence[Message[Work]], session: AsyncSession) -> None:
    """Do as the messages say, then process all their orders."""
    pid = os.getpid()
    note("\n".join(f"{message.data.order_id} {message.delivery} {pid}" for message in messages))
    note(str(len(messages)), "sizes")
    for message in messages:
        work = message.data
        if work.do == "flap" and message.delivery <= work.times:
            raise TransientError("not yet")
        await misbehave(work)
    ids = [message.data.order_id for message in messages]
    await session.execute(update(Order).where(Order.id.in_(ids)).values(status=OrderStatus.PROCESSED))
    await session.execute(insert(OrderEvent), [{"order_id": id_, "kind": "processed"} for id_ in ids])


consumer = Consumer(
    name="faulty_batch", topic="shop.batch", routes=(on_batch("shop.work.v1", Work, handle, most=MOST),)
)


def worker() -> StreamConsumer | RabbitConsumer:
    """What the fault tests run."""
    return StreamConsumer(consumer) if os.environ["FAULTY_BROKER"] == "redis" else RabbitConsumer(consumer)

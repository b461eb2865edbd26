"""A consumer for the fault tests of strict order: each message is a step of an order.

FAULTY_PARTITIONS says into how many partitions the topic is divided. With FAULTY_PLAIN the same handler runs
on the plain consumer, which keeps no order.
"""

import os

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.in_order import Together, partitions
from app.core.lifecycle import Worker
from app.core.outcomes import Dead, Done, Outcome, TransientError
from app.core.rabbit_consumer import RabbitConsumer
from app.core.rabbit_in_order import OrderedRabbitConsumer
from app.core.stream_consumer import StreamConsumer
from app.core.stream_in_order import OrderedStreamConsumer
from app.models.orders import OrderEvent
from support.mischief import Work, misbehave, note, until_released

REDIS = os.environ.get("FAULTY_BROKER") == "redis"


class Step(Work):
    """A step of an order; 1 is the first."""

    step: int = 1


async def handle(message: Message[Step], session: AsyncSession) -> Outcome:
    """Do as the message says; note the step and which one was done before it."""
    work = message.data
    note(f"{work.order_id} {message.delivery} {os.getpid()}")
    match work.do:
        case "flap" if message.delivery <= work.times:
            raise TransientError("not yet")
        case "refuse":
            return Dead("no such step")
        case _:
            await misbehave(work)
    newest = (
        select(OrderEvent.detail)
        .where(OrderEvent.order_id == work.order_id, OrderEvent.kind == "processed")
        .order_by(OrderEvent.id.desc())
        .limit(1)
    )
    former = ((await session.execute(newest)).scalar() or "0").partition(" ")[0]
    session.add(OrderEvent(order_id=work.order_id, kind="processed", detail=f"{work.step} after {former}"))
    await session.flush()
    if work.do == "freeze":  # the effect is written and not committed
        await until_released()
    return Done()


consumer = Consumer(name="faulty_in_order", topic="shop.steps", routes=(on("shop.work.v1", Step, handle),))


def worker() -> Worker:
    """What the fault tests run."""
    if "FAULTY_PLAIN" in os.environ:
        return StreamConsumer(consumer) if REDIS else RabbitConsumer(consumer)
    ordered = OrderedStreamConsumer if REDIS else OrderedRabbitConsumer
    count = int(os.environ.get("FAULTY_PARTITIONS", "0"))
    return Together([ordered(part) for part in partitions(consumer, count)]) if count else ordered(consumer)

"""A consumer for the fault tests: the message says what goes wrong, a file notes each start of a handler."""

import os
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Done, Down, Outcome, TransientError
from app.core.rabbit_consumer import RabbitConsumer
from app.core.rabbit_topology import Queue
from app.core.stream_consumer import StreamConsumer
from app.core.worker_settings import worker_settings
from app.services.emails import EmailService
from app.services.orders import OrderService
from support.mischief import FOLDER, Work, block, misbehave, note, until_released

ON_REDIS = os.environ.get("FAULTY_BROKER") == "redis"


async def handle(message: Message[Work], session: AsyncSession) -> Outcome:
    """Do as the message says, then the shop's own work."""
    work = message.data
    note(f"{work.order_id} {message.delivery} {os.getpid()}")
    match work.do:
        case "email":
            key = message.idempotency_key
            await EmailService(session).send(user_id=1, email_type="receipt", idempotency_key=key)
        case "wait":  # after the write, so that the transaction is open meanwhile
            await OrderService(session).process(work.order_id)
            await until_released()
            return Done()
        case "flap" if message.delivery <= work.times:
            raise TransientError("not yet")
        case "query":
            await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": work.seconds})
        case "down" if (FOLDER / "away").exists():
            return Down("the provider is away")
        case "block":
            block(work.seconds)
        case "bad_ack":
            await acknowledge_nothing()
        case _:
            await misbehave(work)
    await OrderService(session).process(work.order_id)
    return Done()


consumer = Consumer(
    name="faulty",
    topic="shop.work",
    routes=(on("shop.work.v1", Work, handle), on("shop.work.v2", Work, handle)),
    skip=frozenset({"shop.gossip.v1"}),
)


running: list[RabbitConsumer] = []


async def acknowledge_nothing() -> None:
    """Acknowledge a message that there is not, once: RabbitMQ closes the channel over it."""
    if not (FOLDER / "acknowledged").exists():
        (FOLDER / "acknowledged").touch()
        arrival = next(iter(running[0].held.values()))
        await arrival.message.channel.basic_ack(10**9)


def worker() -> StreamConsumer | RabbitConsumer:
    """What the fault tests run."""
    if ON_REDIS:
        return StreamConsumer(consumer)
    type_: Any = os.environ.get("FAULTY_QUEUE", "quorum")
    settings = worker_settings()
    queue = Queue(consumer.name, consumer.topic, settings.rabbitmq_exchange, type=type_)
    running.append(RabbitConsumer(consumer, settings, queue))
    return running[0]

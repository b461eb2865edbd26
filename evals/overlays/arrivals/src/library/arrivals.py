"""Books copies that came in."""

import asyncio
import json
import os

import aio_pika
from library.core.database import get_session
from library.services.books import BookService


async def main() -> None:
    """Consume for ever."""
    connection = await aio_pika.connect_robust(os.environ["RABBITMQ_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=20)
    exchange = await channel.declare_exchange("events", aio_pika.ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue("arrivals", durable=True)
    await queue.bind(exchange, "book.arrived")

    async def work(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        async with message.process(requeue=True):
            data = json.loads(message.body)["data"]
            async with get_session() as session:
                await BookService(session).receive(data["book_id"], data["copies"])

    await queue.consume(work)
    await asyncio.Future()


asyncio.run(main())

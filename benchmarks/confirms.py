"""What it costs to wait for RabbitMQ's confirmation of each message, and what waiting for many at once saves.

    python -m benchmarks.confirms URL COUNT ROUNDS

COUNT messages are sent one by one; the other ways, which are quicker, send ten times as many. All go to a
quorum queue, which confirms when the message is on disk. The ways take turns. Prints JSON: messages per
second of each way, a figure for each round.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

import aio_pika
from aio_pika import DeliveryMode, Message

from app.core.broker import Outgoing
from app.core.rabbit import WINDOW as UNDER_WAY
from app.core.rabbit import Confirmed
from app.core.rabbit_broker import RabbitBroker
from app.core.rabbit_topology import Queue, declare
from benchmarks.contestants.cloudevents import event
from benchmarks.rabbit import SINGLE, WINDOW
from benchmarks.work import CONSUMER, TOPIC, Work

QUEUE = Queue(CONSUMER, TOPIC)
BATCH = 100
MORE = 10
Way = Callable[[int], Awaitable[None]]


def message() -> Message:
    """A message as the relay sends it."""
    body, id_ = event(Work(order_id=1)), str(uuid.uuid4())
    return Message(body, message_id=id_, delivery_mode=DeliveryMode.PERSISTENT)


class Ways:
    """The ways to publish `count` messages."""

    def __init__(self, url: str) -> None:
        self._confirmed = Confirmed(url, "publishes", channels=1)
        self._broker = RabbitBroker(url, QUEUE.exchange)

    async def _one(self) -> None:
        await self._confirmed.publish(message(), TOPIC, QUEUE.exchange)

    async def single(self, count: int) -> None:
        """Each is sent when the one before is confirmed."""
        for _ in range(count):
            await self._one()

    async def batches(self, count: int) -> None:
        """A hundred are sent together, and the next hundred when all of them are confirmed."""
        for _ in range(count // BATCH):
            await asyncio.gather(*(self._one() for _ in range(BATCH)))

    async def window(self, count: int) -> None:
        """As many as `Confirmed` lets through are under way all the time."""

        async def some() -> None:
            for _ in range(count // UNDER_WAY):
                await self._one()

        await asyncio.gather(*(some() for _ in range(UNDER_WAY)))

    async def relay(self, count: int) -> None:
        """As the outbox relay publishes what it has read."""
        await self._broker.publish(
            [Outgoing(TOPIC, None, event(Work(order_id=1)), str(uuid.uuid4())) for _ in range(count)]
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._confirmed.close()
        await self._broker.close()


async def main(url: str, count: int, rounds: int) -> None:
    """Measure all ways, round after round."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await declare(channel, QUEUE)
    queue = await channel.get_queue(CONSUMER)
    ways = Ways(url)
    # Whole batches, and whole rounds of the window's tasks.
    many = max(UNDER_WAY, count * MORE // UNDER_WAY * UNDER_WAY)
    plan: dict[str, tuple[Way, int]] = {
        SINGLE: (ways.single, count),
        f"batches of {BATCH}": (ways.batches, many),
        WINDOW: (ways.window, many),
        "relay's publish": (ways.relay, many),
    }
    found: dict[str, list[float]] = {name: [] for name in plan}
    await ways.window(UNDER_WAY)
    await ways.relay(UNDER_WAY)
    for _ in range(rounds):
        for name, (way, amount) in plan.items():
            begin = time.perf_counter()
            await way(amount)
            found[name].append(amount / (time.perf_counter() - begin))
            await queue.purge()
    await ways.close()
    await connection.close()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

"""Messages from another system: where they go, what comes of them, and a scene to send them in."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import aio_pika
import redis.asyncio
from aio_pika.exceptions import ChannelClosed, DeliveryError

from evals.stage import Stage
from evals.traps import Traps
from support.ledger import Ledger
from support.wait import eventually

ROWS = 8_000
Publish = Callable[[list[bytes]], Awaitable[None]]


@dataclass(frozen=True)
class Topic:
    """Where messages go, what is in them, and what comes of them. `{id}` is the number of a row.

    key: the number of a message, as an expression over NEW, the row of its effect.
    """

    name: str
    type: str
    data: str
    rows: str
    table: str
    key: str
    effects: str
    rabbit: bool = False

    def message(self, number: int) -> bytes:
        """A CloudEvent; the same number gives the same message."""
        envelope = {
            "specversion": "1.0",
            "id": f"evt-{number}",
            "source": "/partner",
            "type": self.type,
            "datacontenttype": "application/json",
            "data": json.loads(self.data.replace("{id}", str(number))),
        }
        return json.dumps(envelope).encode()


@dataclass
class Scene:
    """A topic that is published to on a stage, with traps in the table of its effects."""

    stage: Stage
    topic: Topic
    publish: Publish
    traps: Traps
    numbers: Iterator[int]

    def take(self, count: int) -> list[int]:
        """The next numbers."""
        return list(islice(self.numbers, count))

    async def send(self, numbers: list[int], times: int = 1) -> None:
        """Publish the messages of these numbers."""
        await self.publish([self.topic.message(number) for number in numbers] * times)

    async def effects(self) -> list[Hashable]:
        """Numbers of the rows that are there, as many times as they are."""
        return [row[0] for row in await self.stage.sql(self.topic.effects)]

    async def some(self, of: list[int], at_least: int, seconds: float = 30.0) -> bool:
        """Wait until some of them are done. A project that does nothing is graded, too: the account tells."""

        async def reached() -> bool:
            self.stage.deployment.keep_up()
            return len(set(of) & set(await self.effects())) >= at_least

        with suppress(AssertionError):
            return await eventually(reached, seconds)
        return False

    async def account(self, name: str, numbers: list[int]) -> Ledger:
        """See Stage."""
        return await self.stage.account(f"{self.topic.name}, {name}", numbers, self.effects)


def to_redis(stage: Stage, topic: Topic) -> Publish:
    """Adds entries to the stream; the field is `event`."""

    async def publish(bodies: list[bytes]) -> None:
        async with redis.asyncio.Redis.from_url(stage.redis_url) as client, client.pipeline() as pipeline:
            for body in bodies:
                pipeline.xadd(topic.name, {"event": body})
            await pipeline.execute()

    return publish


def to_rabbit(stage: Stage, topic: Topic) -> Publish:
    """Publishes to the topic exchange `events` with confirms; waits until somebody has bound a queue.

    Each publishing has a message id of its own in its properties: what a message is, its body says.
    """

    async def publish(bodies: list[bytes]) -> None:
        connection: Any = await aio_pika.connect(stage.rabbit_url)
        async with connection:
            await eventually(partial(sent, connection, bodies[:1]), 60, "a queue is bound")
            assert await sent(connection, bodies[1:])

    async def sent(connection: Any, bodies: list[bytes]) -> bool:
        channel = await connection.channel(on_return_raises=True)
        try:
            exchange = await channel.declare_exchange("events", aio_pika.ExchangeType.TOPIC, durable=True)
            for body in bodies:
                await exchange.publish(message(body), topic.name, mandatory=True)
        except (DeliveryError, ChannelClosed):
            return False
        finally:
            await channel.close()
        return True

    def message(body: bytes) -> aio_pika.Message:
        kind, mode = "application/cloudevents+json", aio_pika.DeliveryMode.PERSISTENT
        return aio_pika.Message(body, content_type=kind, delivery_mode=mode, message_id=str(uuid.uuid4()))

    return publish


async def scene_of(stage: Stage, topic: Topic) -> Scene:
    """The rows that the messages are about, and the traps, are there; nothing was sent yet."""
    publish = to_rabbit(stage, topic) if topic.rabbit else to_redis(stage, topic)
    scene = Scene(stage, topic, publish, Traps(stage, topic.table, topic.key), iter(range(1, ROWS + 1)))
    await stage.sql(topic.rows.replace("{count}", str(ROWS)))
    await scene.traps.build()
    return scene

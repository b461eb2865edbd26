"""Messages from another system, while the database is slow and the workers die: one effect for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import aio_pika
import redis.asyncio
from aio_pika.exceptions import ChannelClosed, DeliveryError

from evals.stage import Stage
from support.wait import eventually

EXPECTATIONS = (
    "nothing that was accepted is lost",
    "nothing is done twice",
    "messages that cannot be handled hold up nobody",
    "workers end with exit code 0 within 30 s of SIGTERM",
)
WAVE = 20
REPEATED = 10
SLOW = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$
"""
SLOW_ROW = "CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION be_slow()"

Publish = Callable[[list[bytes]], Awaitable[None]]


@dataclass(frozen=True)
class Topic:
    """Where messages go, what is in them, and what comes of them. `{id}` is the number of a row."""

    name: str
    type: str
    data: str
    rows: str
    table: str
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


async def play(stage: Stage, topic: Topic) -> None:
    """Three waves: workers are killed in the first, deployed in the second; the third has bad messages."""
    publish = to_rabbit(stage, topic) if topic.rabbit else to_redis(stage, topic)
    number = 3 * WAVE
    await stage.sql(topic.rows.replace("{count}", str(number)))
    for statement in (SLOW, SLOW_ROW.format(table=topic.table)):
        await stage.sql(statement)

    async def effects() -> list[Hashable]:
        return [row[0] for row in await stage.sql(topic.effects)]

    async def some(at_least: int) -> None:
        try:
            await eventually(lambda: reached(at_least), 20)
        except AssertionError:  # the account tells; a project that does nothing is graded, too
            return

    async def reached(at_least: int) -> bool:
        return len(set(await effects())) >= at_least

    waves = [range(start, start + WAVE) for start in (1, WAVE + 1, 2 * WAVE + 1)]
    await publish([topic.message(each) for each in waves[0]])
    await some(WAVE // 4)
    await asyncio.to_thread(stage.deployment.kill, web=False)
    await asyncio.to_thread(stage.deployment.start)
    await publish([topic.message(each) for each in [*waves[1], *list(waves[0])[:REPEATED]]])
    await some(WAVE + WAVE // 4)
    await asyncio.to_thread(stage.deployment.redeploy)
    bad = [b"{not json", b"", topic.message(10**6)]
    await publish([*bad, *(topic.message(each) for each in waves[2])])
    await stage.account(topic.name, [number for wave in waves for number in wave], effects)
    after_bad = set(waves[2]) & set(await effects())
    stage.find(
        EXPECTATIONS[2], f"{len(after_bad)} of {WAVE} behind three bad ones", passed=len(after_bad) == WAVE
    )
    stage.find_clean_exit()


def to_redis(stage: Stage, topic: Topic) -> Publish:
    """Adds entries to the stream; the field is `event`."""

    async def publish(bodies: list[bytes]) -> None:
        async with redis.asyncio.Redis.from_url(stage.redis_url) as client:
            for body in bodies:
                await client.xadd(topic.name, {"event": body})

    return publish


def to_rabbit(stage: Stage, topic: Topic) -> Publish:
    """Publishes to the topic exchange `events` with confirms; waits until somebody has bound a queue."""

    async def publish(bodies: list[bytes]) -> None:
        connection: Any = await aio_pika.connect(stage.rabbit_url)
        async with connection:
            for body in bodies:
                await eventually(partial(sent, connection, body), 60, "a queue is bound")

    async def sent(connection: Any, body: bytes) -> bool:
        channel = await connection.channel(on_return_raises=True)
        try:
            kind, mode = "application/cloudevents+json", aio_pika.DeliveryMode.PERSISTENT
            exchange = await channel.declare_exchange("events", aio_pika.ExchangeType.TOPIC, durable=True)
            message = aio_pika.Message(body, content_type=kind, delivery_mode=mode)
            await exchange.publish(message, topic.name, mandatory=True)
        except (DeliveryError, ChannelClosed):
            return False
        finally:
            await channel.close()
        return True

    return publish

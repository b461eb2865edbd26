"""The outbox relay: from a committed row to an entry of the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from app.core.broker import Broker, Loss, Outgoing
from app.core.database import get_session
from app.core.outbox import LANES, enqueue
from app.workers.outbox_relay import worker
from benchmarks.contestants.cloudevents import event
from benchmarks.meter import Meter
from benchmarks.spec import Spec
from benchmarks.work import TOPIC, TYPE, Work

FILL = text(
    """
    INSERT INTO outbox_message (lane, topic, message_id, body)
    SELECT n % :lanes, :topic, gen_random_uuid(), :body FROM generate_series(1, :count) AS n
    """
)


class Counting:
    """A broker that tells the meter what it has confirmed."""

    def __init__(self, broker: Broker, meter: Meter) -> None:
        self._broker = broker
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def publish(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """See `app.core.broker.Broker`."""
        results = await self._broker.publish(messages)
        for message in messages:
            self._meter.done(published_at(message) if self._meter.worked_off.is_set() else 0.0)
        return results

    async def loss(self, *args: Any) -> Loss:
        """See `app.core.broker.Broker`. A new Redis has lost everything, which is not what is measured."""
        await self._broker.loss(*args)
        return Loss.NONE


def published_at(message: Outgoing) -> float:
    """When the message was enqueued."""
    at: float = json.loads(message.body)["data"]["at"]
    return at


async def consume(_: Spec, meter: Meter) -> None:
    """Run the relay until all rows are sent."""
    stop = asyncio.Event()
    relay = worker()
    counting: Any = Counting(relay.broker, meter)
    relay.broker = counting
    running = asyncio.create_task(relay.run(stop))
    await meter.finished.wait()
    stop.set()
    await running


class Publisher:
    """Writes into the outbox: one message by `enqueue`, many by one statement, which takes less long."""

    def __init__(self, _: Spec) -> None:
        self._body = event(Work(order_id=1)).decode()

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        async with get_session() as session:
            if len(batch) == 1:
                await enqueue(session, TYPE, batch[0])
            else:
                values = {"topic": TOPIC, "body": self._body, "lanes": LANES, "count": len(batch)}
                await session.execute(FILL, values)

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""

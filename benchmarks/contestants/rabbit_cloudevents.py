"""Publishes what our consumers and the bare loop read from RabbitMQ."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from app.core.broker import Outgoing
from app.core.rabbit import RabbitConnection
from app.core.rabbit_broker import RabbitBroker
from app.core.rabbit_topology import Queue, declare
from benchmarks.contestants.cloudevents import event
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC, Work

QUEUE = Queue(CONSUMER, TOPIC)


class Publisher:
    """Sends as the outbox relay does, a window of confirmed messages at a time."""

    def __init__(self, spec: Spec) -> None:
        self._url = spec.rabbit_url
        self._broker = RabbitBroker(spec.rabbit_url, QUEUE.exchange)
        self._ready = False

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`. Makes the queue too, as its consumer would."""
        if not self._ready:
            await self._make_queue()
        results = await self._broker.publish([Outgoing(TOPIC, None, event(work), name()) for work in batch])
        if len(results) != len(batch) or any(results):
            raise RuntimeError(f"RabbitMQ did not take all: {results}")

    async def _make_queue(self) -> None:
        connection = RabbitConnection(self._url, "makes the queue")
        await declare(await connection.channel(), QUEUE)
        await connection.close()
        self._ready = True

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._broker.close()


def name() -> str:
    """A message id that was not there before."""
    return str(uuid.uuid4())

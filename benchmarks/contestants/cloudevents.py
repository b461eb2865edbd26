"""Publishes what our consumer and the bare loops read."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.core.envelope import build
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC, TYPE, Work


class Publisher:
    """Adds entries as the outbox relay does, in one round trip for a batch."""

    def __init__(self, spec: Spec) -> None:
        self._client = Redis.from_url(spec.redis_url, socket_timeout=10)
        self._ready = False

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`. Makes the group too, unless it is there."""
        if not self._ready:
            await self._make_group()
        async with self._client.pipeline(transaction=False) as pipe:
            for work in batch:
                pipe.xadd(TOPIC, {b"event": event(work)})
            await pipe.execute()

    async def _make_group(self) -> None:
        self._ready = True
        try:
            await self._client.xgroup_create(TOPIC, CONSUMER, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._client.aclose()


def event(work: Work) -> bytes:
    """The bytes of a message about `work`."""
    return build(TYPE, work, source="/bench", id_=str(uuid.uuid4()), subject=str(work.order_id))

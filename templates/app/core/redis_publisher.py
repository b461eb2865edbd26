"""Sends messages straight to a Redis stream, for what no transaction vouches for.

A message that belongs to a change in the database goes through the outbox instead: sent directly, it is
either lost with a crash after the commit or tells of a change that was rolled back.
"""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Self

from pydantic import BaseModel

from app.core.broker import BrokerDownError, Outgoing
from app.core.envelope import build, current_traceparent, topic_of
from app.core.outcomes import PermanentError
from app.core.redis_broker import RedisBroker
from app.core.worker_settings import WorkerSettings, worker_settings


class RefusedError(PermanentError):
    """Redis does not take this message, now or later."""


class StreamPublisher:
    """One for each process; open it in the lifespan: `async with StreamPublisher() as publisher`."""

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        self._settings = settings or worker_settings()
        url = self._settings.redis_url.get_secret_value()
        self._broker = RedisBroker(url)

    async def publish(
        self, type_: str, data: BaseModel, *, topic: str | None = None, message_id: uuid.UUID | None = None
    ) -> uuid.UUID:
        """Send `data` as a message of `type_` and wait for Redis to confirm it; the message's id.

        Raises BrokerDownError within about ten seconds when Redis does not confirm. The message may have
        been added all the same: call again with the same `message_id`, and consumers do it once.
        Raises RefusedError, and ValueError for a type without a version or a message that is too large.
        """
        id_ = message_id or uuid.uuid4()
        trace = current_traceparent.get()
        body = build(type_, data, source=self._settings.outbox_source, id_=str(id_), traceparent=trace)
        if len(body) > self._settings.worker_max_message_bytes:
            raise ValueError(f"message of {len(body)} bytes: send an id and let the consumer read")
        (refusal,) = await self._broker.publish([Outgoing(topic or topic_of(type_), None, body)])
        if refusal is not None:
            raise RefusedError(refusal)
        return id_

    async def close(self) -> None:
        """Close the connections."""
        await self._broker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


__all__ = ["BrokerDownError", "RefusedError", "StreamPublisher"]

"""Sends messages straight to the broker, for what no transaction vouches for.

A message that belongs to a change in the database goes through the outbox instead: sent directly, it is
either lost with a crash after the commit or tells of a change that was rolled back.
"""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Self

from pydantic import BaseModel

from app.core.broker import Broker, BrokerDownError, Outgoing
from app.core.envelope import build, current_traceparent, topic_of
from app.core.outcomes import PermanentError
from app.core.worker_settings import WorkerSettings


class RefusedError(PermanentError):
    """The broker does not take this message: no queue is bound for it, or its place is taken."""


class Publisher:
    """One for each process; open it in the lifespan: `async with StreamPublisher() as publisher`."""

    def __init__(self, broker: Broker, settings: WorkerSettings) -> None:
        self._broker, self._settings = broker, settings

    async def publish(
        self, type_: str, data: BaseModel, *, topic: str | None = None, message_id: uuid.UUID | None = None
    ) -> uuid.UUID:
        """Send `data` as a message of `type_` and wait for the broker to confirm it; the message's id.

        Raises BrokerDownError within about ten seconds when it does not confirm. The message may have
        been taken all the same: call again with the same `message_id`, and consumers do it once.
        Raises RefusedError, and ValueError for a type without a version or a message that is too large.
        """
        id_ = message_id or uuid.uuid4()
        trace = current_traceparent.get()
        body = build(type_, data, source=self._settings.outbox_source, id_=str(id_), traceparent=trace)
        if len(body) > self._settings.worker_max_message_bytes:
            raise ValueError(f"message of {len(body)} bytes: send an id and let the consumer read")
        (refusal,) = await self._broker.publish([Outgoing(topic or topic_of(type_), None, body, str(id_))])
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


__all__ = ["BrokerDownError", "Publisher", "RefusedError"]

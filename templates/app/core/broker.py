"""The port between the outbox relay and what carries messages: three methods for an adapter to write."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.outcomes import WorkerError


class BrokerDownError(WorkerError):
    """The broker did not confirm: nothing is known of these messages, they will be sent again."""


class Loss(enum.Enum):
    """What a broker may have lost of what it had confirmed."""

    NONE = "nothing"
    RECENT = "the last moments"
    ALL = "everything"


# How a reason starts that may pass by itself, such as a queue that the next deployment makes.
NOT_YET = "waiting: "


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. `key` orders it; adapters that route by key may use it."""

    topic: str
    key: str | None
    body: bytes
    id: str


class Broker(Protocol):
    """An adapter. It keeps the order of what it is given."""

    async def publish(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """Send `messages` and wait for the confirmation of each: None, or why the broker refuses this one.

        Fewer results than messages: it is not known what became of the rest. Raises BrokerDownError when
        nothing is known of any.
        """

    async def loss(self, owner: str) -> Loss:
        """What the broker lost since `remember`. `owner` names the outbox: several may share a broker, and
        each has to notice for itself. Raises BrokerDownError.
        """

    async def remember(self, owner: str) -> None:
        """From here on `loss` reports anew. Raises BrokerDownError."""

    async def close(self) -> None:
        """Close the connections."""

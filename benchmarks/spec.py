"""What a contestant's processes are to do. Standard library only, like `meter`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

PREFETCH = 100  # messages that a consumer of RabbitMQ holds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.work import Work


@dataclass(frozen=True)
class Spec:
    """One run of one contestant.

    `task` is "noop" or "write". `warmup` and `count` messages lie ready, `arrivals` come one by one at
    `rate` per second after them. The orders they are about begin at `first_order`.
    """

    contestant: str
    task: str
    redis_url: str
    concurrency: int
    warmup: int
    count: int
    arrivals: int = 0
    rate: float = 1.0
    first_order: int = 1
    rabbit_url: str = ""

    @property
    def backlog(self) -> int:
        """Messages that lie ready."""
        return self.warmup + self.count

    @property
    def messages(self) -> int:
        """All messages."""
        return self.backlog + self.arrivals

    def dump(self) -> str:
        """For the command line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def load(cls, text: str) -> Spec:
        """From the command line."""
        return cls(**json.loads(text))


class Publisher(Protocol):
    """How messages get to a contestant."""

    async def publish(self, batch: Sequence[Work]) -> None:
        """Send messages, together where that is possible."""

    async def close(self) -> None:
        """Close the connections."""

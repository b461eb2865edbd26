"""The kinds of workers that can be added."""

from __future__ import annotations

from dataclasses import dataclass

from workerkit.consumer import TEMPLATE as CONSUMER
from workerkit.templates import PACKAGE

RUNNER = f"{PACKAGE}.workers.run"
# What not every project needs; it lands when asked for.
EXTRAS = {"publisher": f"{PACKAGE}.core.redis_publisher"}
# What all landed tests share: pytest's fixtures, and the process that plays the worker.
TEST_SUPPORT = ("workers/conftest.py", "workers/replica.py")


@dataclass(frozen=True)
class Kind:
    """A kind of worker. `worker` is the template of its own module, `table` the one that it needs.

    `named` kinds are added several times, under names of their own, each calling a service.
    """

    name: str
    summary: str
    worker: str
    table: str
    named: bool

    @property
    def roots(self) -> tuple[str, ...]:
        """The templates that land, with all that they import."""
        return self.worker, RUNNER, f"{PACKAGE}.models.{self.table}"

    @property
    def model(self) -> str:
        """The class of the table."""
        return "".join(part.capitalize() for part in self.table.split("_"))


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "redis-consumer",
            "consumes messages of one type from a Redis stream and calls a service method, once for each",
            CONSUMER,
            "inbox_message",
            named=True,
        ),
        Kind(
            "outbox-relay",
            "sends the messages that services write into the outbox, after their commit, to Redis streams",
            f"{PACKAGE}.workers.outbox_relay",
            "outbox_message",
            named=False,
        ),
    )
}

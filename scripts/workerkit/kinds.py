"""The kinds of workers that can be added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workerkit.brokers import RABBITMQ, REDIS, Broker
from workerkit.consumer import TEMPLATE as CONSUMER
from workerkit.source import Module
from workerkit.templates import PACKAGE, closure, reworded, template

RUNNER = f"{PACKAGE}.workers.run"
RELAY = f"{PACKAGE}.workers.outbox_relay"
DEAD_LETTERS = f"{PACKAGE}.workers.dead_letters"
# What all landed tests share: pytest's fixtures, and the process that plays the worker.
TEST_SUPPORT = ("workers/conftest.py", "workers/replica.py")


@dataclass(frozen=True)
class Kind:
    """A kind of worker; `table` is the one that it needs.

    `named` kinds are added several times, under names of their own, each calling a service.
    """

    name: str
    summary: str
    table: str
    brokers: tuple[Broker, ...]
    named: bool

    @property
    def worker(self) -> str:
        """The name of its own module, as long as the user gives no other."""
        return CONSUMER if self.named else RELAY

    def own(self, broker: Broker) -> Module:
        """The template of its own module, as it reads for `broker`.

        One consumer's template for all brokers: theirs differ in two words. Relays differ in more, and land
        under one name, for an outbox has one kind of relay.
        """
        if self.named:
            return reworded(template(CONSUMER), broker.words, CONSUMER)
        return reworded(template(broker.relay), {broker.relay: RELAY, last(broker.relay): last(RELAY)}, RELAY)

    def modules(self, broker: Broker, extras: Iterable[str] = ()) -> dict[str, Module]:
        """The templates that land, with all that they import."""
        names = [RUNNER, f"{PACKAGE}.models.{self.table}"]
        names += [DEAD_LETTERS] if self.named else []
        names += [name for extra in extras for name in broker.extras[extra]]
        return closure([self.own(broker), *map(template, names)])

    @property
    def model(self) -> str:
        """The class of the table."""
        return "".join(part.capitalize() for part in self.table.split("_"))


def last(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "redis-consumer",
            "consumes messages of one type from a Redis stream and calls a service method, once for each",
            "inbox_message",
            (REDIS,),
            named=True,
        ),
        Kind(
            "rabbitmq-consumer",
            "consumes messages of one type from a RabbitMQ queue and calls a service method, once for each",
            "inbox_message",
            (RABBITMQ,),
            named=True,
        ),
        Kind(
            "outbox-relay",
            "sends the messages that services write into the outbox, after their commit, to Redis streams "
            "or to RabbitMQ",
            "outbox_message",
            (REDIS, RABBITMQ),
            named=False,
        ),
    )
}

"""The kinds of workers that can be added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workerkit.brokers import NO_BROKER, RABBITMQ, REDIS, Broker
from workerkit.consumer import TEMPLATE as CONSUMER
from workerkit.cron_job import TEMPLATE as CRON_JOB
from workerkit.source import Module
from workerkit.templates import PACKAGE, closure, reworded, template

RUNNER = f"{PACKAGE}.workers.run"
RELAY = f"{PACKAGE}.workers.outbox_relay"
DEAD_LETTERS = f"{PACKAGE}.workers.dead_letters"
SCHEDULER = f"{PACKAGE}.workers.scheduler"
CRON = f"{PACKAGE}.workers.cron"
INTERVAL = f"{PACKAGE}.core.interval"
# What all landed tests share: pytest's fixtures, and the process that plays the worker.
TEST_SUPPORT = ("workers/conftest.py", "workers/replica.py")


@dataclass(frozen=True)
class Kind:
    """A kind of worker; `table` is the one that it needs, `worker` the name of its own module, as long as the
    user gives no other.

    `named` kinds are added several times, under names of their own, each calling a service. The modules
    `beside` land with it, as the runner does. `process` is what runs such workers, if they are no processes
    themselves; a project that has it has some. Consumers are known by the module that runs those of a broker.
    """

    name: str
    summary: str
    table: str
    brokers: tuple[Broker, ...]
    named: bool
    worker: str
    beside: tuple[str, ...] = ()
    process: str = ""

    @property
    def is_cron_job(self) -> bool:
        """Whether it is a cron job."""
        return self.worker == CRON_JOB

    def own(self, broker: Broker) -> Module:
        """The template of its own module, as it reads for `broker`.

        One consumer's template for all brokers: theirs differ in two words. Relays differ in more, and land
        under one name, for an outbox has one kind of relay.
        """
        if self.named:
            return reworded(template(self.worker), broker.words, self.worker)
        return reworded(template(broker.relay), {broker.relay: RELAY, last(broker.relay): last(RELAY)}, RELAY)

    def modules(self, broker: Broker, extras: Iterable[str] = ()) -> dict[str, Module]:
        """The templates that land, with all that they import."""
        names = [RUNNER, *self.beside, f"{PACKAGE}.models.{self.table}"]
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
            worker=CONSUMER,
            beside=(DEAD_LETTERS,),
        ),
        Kind(
            "rabbitmq-consumer",
            "consumes messages of one type from a RabbitMQ queue and calls a service method, once for each",
            "inbox_message",
            (RABBITMQ,),
            named=True,
            worker=CONSUMER,
            beside=(DEAD_LETTERS,),
        ),
        Kind(
            "outbox-relay",
            "sends the messages that services write into the outbox, after their commit, to Redis streams "
            "or to RabbitMQ",
            "outbox_message",
            (REDIS, RABBITMQ),
            named=False,
            worker=RELAY,
        ),
        Kind(
            "cron-job",
            "calls a service method on a schedule, once for each due time, whatever dies or is deployed",
            "cron_run",
            (NO_BROKER,),
            named=True,
            worker=CRON_JOB,
            beside=(SCHEDULER, CRON, INTERVAL),
            process=SCHEDULER,
        ),
    )
}

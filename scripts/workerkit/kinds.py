"""The kinds of workers that can be added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from workerkit.brokers import (
    CELERY,
    LLM,
    LLM_BATCH,
    NO_BROKER,
    RABBITMQ,
    REDIS,
    WEBHOOKS,
    WEBHOOKS_IN,
    Broker,
)
from workerkit.consumer import CONSUMER, TASK, Example
from workerkit.cron_job import CRON_JOB
from workerkit.llm_job import BATCH_JOB, LLM_JOB
from workerkit.source import Module
from workerkit.templates import PACKAGE, closure, reworded, template
from workerkit.tracked_task import TRACKED

RUNNER = f"{PACKAGE}.workers.run"
RELAY = f"{PACKAGE}.workers.outbox_relay"
DEAD_LETTERS = f"{PACKAGE}.workers.dead_letters"
SCHEDULER = f"{PACKAGE}.workers.scheduler"
CRON = f"{PACKAGE}.workers.cron"
INTERVAL = f"{PACKAGE}.core.interval"
CELERY_APP = f"{PACKAGE}.core.celery_app"
CELERY_TASK = f"{PACKAGE}.core.celery_task"
CELERY_LETTERS = f"{PACKAGE}.core.celery_letters"
JOBS = f"{PACKAGE}.tasks.jobs"
LLM_JOBS = f"{PACKAGE}.workers.llm_jobs"
WEBHOOK_SENDER = f"{PACKAGE}.workers.webhooks"
WEBHOOKS_API = f"{PACKAGE}.api.webhooks"
WEBHOOK_RECEIVER = f"{PACKAGE}.api.webhook_in"
LLM_BATCHES = f"{PACKAGE}.workers.llm_batches"
DISPATCHER = f"{PACKAGE}.workers.job_dispatcher"
# What all landed tests share: pytest's fixtures, the lab, and the process that plays the worker.
TEST_SUPPORT = ("workers/conftest.py", "workers/lab.py", "workers/replica.py")
SAMPLES = "workers/samples.py"


@dataclass(frozen=True)
class Kind:
    """A kind of worker; `tables` are the modules of those that it needs.

    Kinds with an `example` are added several times, under names of their own, each calling a service. The
    modules `beside` land with it, as the runner does. `process` is what runs such workers, if they are no
    processes themselves, and `known_by` a module that only projects with such workers have. Consumers are
    known by the module that runs those of a broker.
    """

    name: str
    summary: str
    tables: tuple[str, ...]
    brokers: tuple[Broker, ...]
    example: Example | None
    beside: tuple[str, ...] = ()
    process: str = ""
    known_by: str = ""
    module: str = ""
    """Of a kind without an example, but the relay: what it runs, or the router that the API gets."""

    @property
    def named(self) -> bool:
        """Whether each worker of the kind has a name and a service of its own."""
        return self.example is not None

    @property
    def worker(self) -> str:
        """The module of the worker, as long as the user gives no other name."""
        return self.example.template if self.example is not None else self.module or RELAY

    @property
    def is_consumer(self) -> bool:
        """Whether it takes messages that any program may send."""
        return self.example is CONSUMER

    @property
    def is_cron_job(self) -> bool:
        """Whether it is a cron job."""
        return self.example is CRON_JOB

    @property
    def is_task(self) -> bool:
        """Whether Celery runs it."""
        return self.example in (TASK, TRACKED)

    @property
    def is_tracked(self) -> bool:
        """Whether Celery runs it and it has a row that is its record."""
        return self.example is TRACKED

    @property
    def is_llm_job(self) -> bool:
        """Whether it asks a language model."""
        return self.example in (LLM_JOB, BATCH_JOB)

    @property
    def is_batch_job(self) -> bool:
        """Whether it does so in batches."""
        return self.example is BATCH_JOB

    @property
    def is_job(self) -> bool:
        """Whether it has a row that is its record."""
        return self.is_tracked or self.is_llm_job

    @property
    def needs_relay(self) -> bool:
        """Whether the relay belongs to it: other consumers get what any program sends."""
        return self.example is TASK or self.worker == RELAY

    @property
    def is_router(self) -> bool:
        """Whether it runs in the API, in no process of its own."""
        return self.module == WEBHOOK_RECEIVER

    @property
    def test_support(self) -> tuple[str, ...]:
        """What its tests share with those of its kind."""
        if self.example is None:
            kits = {RELAY: "relay_kit", WEBHOOK_SENDER: "webhook_kit", WEBHOOK_RECEIVER: "webhook_in_kit"}
            return (f"workers/{kits[self.worker]}.py",)
        if self.is_cron_job:
            return ("workers/cron_kit.py",)
        kit = "celery_kit" if self.is_task else "llm_kit" if self.is_llm_job else "consumer_kit"
        return (f"workers/{kit}.py", SAMPLES)

    def own(self, broker: Broker) -> Module:
        """The template of its own module, as it reads for `broker`.

        One consumer's template for all brokers: theirs differ in two words.
        """
        if self.worker == RELAY:
            return relay(broker)
        return reworded(template(self.worker), broker.words, self.worker)

    def modules(self, broker: Broker, extras: Iterable[str] = ()) -> dict[str, Module]:
        """The templates that land, with all that they import."""
        names = [
            *([] if self.is_router else [RUNNER]),
            *self.beside,
            *(f"{PACKAGE}.models.{table}" for table in self.tables),
        ]
        names += [name for extra in extras for name in broker.extras[extra]]
        relays = [relay(broker)] if self.needs_relay else []
        return closure([self.own(broker), *relays, *map(template, names)])

    @property
    def models(self) -> list[str]:
        """The classes of the tables."""
        return ["".join(part.capitalize() for part in table.split("_")) for table in self.tables]


def relay(broker: Broker) -> Module:
    """The relay to `broker`. All land under one name, for an outbox has one kind of relay."""
    return reworded(template(broker.relay), {broker.relay: RELAY, last(broker.relay): last(RELAY)}, RELAY)


def last(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "redis-consumer",
            "consumes messages of one type from a Redis stream and calls a service method, once for each",
            ("inbox_message",),
            (REDIS,),
            CONSUMER,
            beside=(DEAD_LETTERS,),
        ),
        Kind(
            "rabbitmq-consumer",
            "consumes messages of one type from a RabbitMQ queue and calls a service method, once for each",
            ("inbox_message",),
            (RABBITMQ,),
            CONSUMER,
            beside=(DEAD_LETTERS,),
        ),
        Kind(
            "outbox-relay",
            "sends the messages that services write into the outbox, after their commit, to Redis streams "
            "or to RabbitMQ",
            ("outbox_message",),
            (REDIS, RABBITMQ),
            None,
        ),
        Kind(
            "cron-job",
            "calls a service method on a schedule, once for each due time, whatever dies or is deployed",
            ("cron_run",),
            (NO_BROKER,),
            CRON_JOB,
            beside=(SCHEDULER, CRON, INTERVAL),
            process=SCHEDULER,
            known_by=SCHEDULER,
        ),
        Kind(
            "celery-task",
            "runs a service method in a Celery worker, once for each message, or as a job with a status",
            ("inbox_message", "outbox_message", "dead_letter", "task_start"),
            CELERY,
            TASK,
            beside=(DEAD_LETTERS, CELERY_LETTERS),
            process=RELAY,
            known_by=CELERY_TASK,
        ),
        Kind(
            "llm-job",
            "asks a language model between two service methods, in a job that streams and can be cancelled",
            ("job", "job_event", "llm_spend", "dead_letter"),
            (LLM,),
            LLM_JOB,
            beside=(DEAD_LETTERS, LLM_JOBS),
            process=LLM_JOBS,
            known_by=LLM_JOBS,
        ),
        Kind(
            "webhook-sender",
            "sends webhooks to the endpoints of customers, signed, each event at least once under one id",
            ("job", "job_event", "dead_letter", "webhook_endpoint"),
            (WEBHOOKS,),
            None,
            beside=(DEAD_LETTERS, WEBHOOKS_API),
            known_by=WEBHOOK_SENDER,
            module=WEBHOOK_SENDER,
        ),
        Kind(
            "webhook-receiver",
            "takes the signed webhooks of a provider, stores each once and answers",
            ("inbox_message",),
            (WEBHOOKS_IN,),
            None,
            known_by=WEBHOOK_RECEIVER,
            module=WEBHOOK_RECEIVER,
        ),
    )
}
# What `celery-task --tracked` adds.
TRACKED_TASK = replace(
    KINDS["celery-task"],
    tables=("job", "dead_letter"),
    example=TRACKED,
    beside=(DEAD_LETTERS, CELERY_LETTERS, JOBS, DISPATCHER),
    process=DISPATCHER,
    known_by=DISPATCHER,
)
# What `llm-job --batch` adds.
BATCHED_JOB = replace(
    KINDS["llm-job"],
    tables=(*KINDS["llm-job"].tables, "llm_batch"),
    brokers=(LLM_BATCH,),
    example=BATCH_JOB,
    beside=(DEAD_LETTERS, LLM_JOBS, LLM_BATCHES),
    known_by=LLM_BATCHES,
)
ALL = (*KINDS.values(), TRACKED_TASK, BATCHED_JOB)

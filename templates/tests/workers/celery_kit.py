"""Celery's tasks, as the tests see them, and as the process that plays Celery's worker runs them."""

from __future__ import annotations

import importlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

# What was in the hands of a dead worker comes back soon, from Redis after its visibility timeout.
CELERY_SETTINGS = {
    "REMAP_SIGTERM": "SIGQUIT",
    "CELERY_DRAIN_SECONDS": "0.3",
    "CELERY_PUBLISH_TIMEOUT_SECONDS": "2",
}
PLAIN_SETTINGS = {
    "WORKER_HANDLER_TIMEOUT_SECONDS": "2",
    "CELERY_SOFT_TIME_LIMIT_SECONDS": "4",
    "CELERY_TIME_LIMIT_SECONDS": "6",
    "CELERY_VISIBILITY_TIMEOUT_SECONDS": "14",
}
# Jobs come back because of their leases. Kinds may take as long as they like.
JOB_SETTINGS = {
    "CELERY_VISIBILITY_TIMEOUT_SECONDS": "100000",
    "JOB_LEASE_SECONDS": "2",
    "JOB_POLL_SECONDS": "0.2",
    "JOB_OVERTAKEN_SECONDS": "1",
    "JOB_LONELY_SECONDS": "2",
}
JOBS = "SELECT state, attempt FROM job WHERE id = CAST(:id AS uuid)"
LETTERS = "SELECT body, reason FROM dead_letter WHERE source = :source"
CELERY_DEADLINE = 60.0  # Redis gives back what a dead worker had after 14 to 20 seconds
OWNER = "worker lab"
# xmin is the transaction that wrote a row: the effect finds its message only in the inbox row of its own one.
EFFECT_OF_TASK = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT message_id, :process FROM inbox_message
    WHERE CAST(CAST(xmin AS text) AS bigint) = txid_current() % 4294967296
    RETURNING message_id
    """
)
# The transaction of a job's attempt is known by a name that app.core.job_attempt gives it.
EFFECT_OF_JOB = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT split_part(name, ' ', 2), :process FROM current_setting('application_name') AS name
    WHERE starts_with(name, 'job ')
    RETURNING message_id
    """
)


def start(
    labs: Any,
    role: str,
    broker: str,
    name: str,
    calls: str,
    *,
    payload: dict[str, Any] | None = None,
    returns: dict[str, Any] | None = None,
) -> CeleryLab:
    """The lab of a plain task or, as the role says, of a tracked one, a job.

    It has a name, the service it calls, a payload if none can be made up, and the attributes of what the
    service returns if the task uses them.
    """
    make: type[CeleryLab] = JobLab if role == "job" else TaskLab
    carrier = labs.broker(broker)
    address = carrier.environment.get("REDIS_URL") or carrier.environment["RABBITMQ_URL"]
    own = {"CELERY_BROKER_URL": address, "CELERY_KEY_PREFIX": f"worker-lab-{uuid.uuid4().hex}:"}
    settings = {**CELERY_SETTINGS, **make.settings, **own, "LAB_RESULT": json.dumps(returns)}
    lab = make(labs.lab("celery_kit", f"{role}_{name}", settings, role, name, calls), name)
    lab.payload = lab.payload if payload is None else payload
    return lab


class CeleryLab:
    """Celery's workers, which run one task, in a lab."""

    settings: Mapping[str, str]

    def __init__(self, lab: Any, name: str) -> None:
        self._lab, self.name = lab, name
        self.facts: dict[str, Any] = lab.desk.ask("describe_task", name)
        self.type: str = self.facts["type"]
        self.payload: dict[str, Any] = self.facts["payload"]
        self.required: list[str] = self.facts["required"]
        lab.desk.ask("clear_tasks")
        lab.ending.callback(lab.desk.ask, "clear_tasks")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def wait_done(self, *messages: str) -> None:
        """Wait until all are done."""
        self._lab.wait_for(lambda: set(messages) <= set(self._lab.done()), "all are done", CELERY_DEADLINE)

    def taken(self) -> bool:
        """Whether all that was sent is in the hands of workers."""
        return bool(self._lab.desk.ask("count_tasks")[0] == 0)


class TaskLab(CeleryLab):
    """Celery's workers with one plain task."""

    settings = PLAIN_SETTINGS

    def message(self, **changes: Any) -> tuple[str, str]:
        """Id and text of a message that fits, but for `changes`."""
        id_ = str(uuid.uuid4())
        attributes = {"specversion": "1.0", "id": id_, "source": self._lab.source, "type": self.type}
        return id_, json.dumps({**attributes, "data": self.payload, **changes})

    def send(self, text_: str, id_: str) -> None:
        """Send a task with this message to Celery."""
        self._lab.desk.ask("send_task", self.facts["task"], text_, id_)

    def send_new(self) -> str:
        """Send a new message that fits to Celery; its id."""
        id_, text_ = self.message()
        self.send(text_, id_)
        return id_

    def enqueue(self, ending: str = "commit") -> str:
        """Write a message into the outbox in a transaction that ends with commit or rollback; its id."""
        return str(self._lab.desk.ask("enqueue", self.type, json.dumps(self.payload), 1, ending)[0])

    def wait_done(self, *messages: str) -> None:
        """Wait until all messages are done and nothing is left for anybody."""
        super().wait_done(*messages)
        self._lab.wait_for(lambda: self.left() == 0, "all are settled", CELERY_DEADLINE)

    def left(self) -> int:
        """How many messages are not settled, as far as the broker tells."""
        return sum(self._lab.desk.ask("count_tasks"))

    def dead(self) -> dict[str, str]:
        """The dead letters: their text and the reason."""
        rows = self._lab.rows(LETTERS, source=self.facts["task"])
        return {row.body.decode(): row.reason for row in rows}


class JobLab(CeleryLab):
    """Celery's workers with one tracked task, whose service returns an object with these attributes."""

    settings = JOB_SETTINGS

    def submit(self, ending: str = "commit") -> str:
        """Submit a job in a transaction that ends with commit or rollback; its id."""
        return str(self._lab.desk.ask("submit", self.name, ending, json.dumps(self.payload)))

    def send(self, job: str) -> None:
        """Send a job's id to Celery once more."""
        self._lab.desk.ask("send_task", self.facts["task"], job, uuid.uuid4().hex)

    def state(self, job: str) -> tuple[str, int]:
        """A job's state and how often it was begun; nothing and 0 without such a job."""
        rows = self._lab.rows(JOBS, id=job)
        return (rows[0].state, rows[0].attempt) if rows else ("", 0)

    def wait_done(self, *messages: str) -> None:
        """Wait until all jobs have succeeded. What the broker has left over is harmless."""
        super().wait_done(*messages)
        states = {"succeeded"}
        self._lab.wait_for(lambda: {self.state(job)[0] for job in messages} == states, "all have succeeded")


# -- in the process ------------------------------------------------------------------------------------


def play(role: str, name: str, calls: str) -> int:
    """Run a Celery worker that has one task at a time, and no other kind of task than this one."""
    replica: Any = importlib.import_module("replica")
    replica.replace_service(calls, EFFECT_OF_JOB if role == "job" else EFFECT_OF_TASK)
    celery_app = of("app.core.celery_app", "celery_app")
    needed = ["app.core.celery_letters", *(["app.tasks.jobs"] if role == "job" else [])]
    celery_app.conf.include = [*needed, f"app.tasks.{name}"]
    options = ["--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    celery_app.worker_main(["worker", *options, "--hostname", f"{os.getpid()}@%h"])
    return 0


def describe_task(name: str) -> dict[str, Any]:
    """What the definition of a task or job says: type and a payload that fits."""
    module: Any = importlib.import_module(f"app.tasks.{name}")
    plain = getattr(module, "consumer", None)
    kind = getattr(module, name) if plain is None else plain.routes[0]
    task = "jobs.run" if plain is None else plain.topic
    return {"task": task, "type": kind.name, **of("samples", "of")(kind.payload)}


def of(module: str, name: str) -> Any:
    """Something of a module that only some projects have."""
    return getattr(importlib.import_module(module), name)


def send_task(name: str, argument: str, id_: str) -> None:
    """Put a task into Celery's broker."""
    of("app.core.celery_broker", "put")(name, [argument], task_id=id_)


def count_tasks() -> list[int]:
    """How many tasks are in the queues, and how many in the hands of workers; RabbitMQ tells only of those in
    queues.
    """
    settings = of("app.core.celery_settings", "celery_settings")()
    with celery_channel() as channel:
        if settings.uses_redis:  # where kombu looks for a queue without the prefix of its keys
            waiting = sum(channel._size(queue) for queue in settings.queues)
            return [waiting, channel.client.hlen(channel.unacked_key)]
        declared = [channel.queue_declare(queue, passive=True) for queue in settings.queues]
        return [sum(queue.message_count for queue in declared), 0]


def clear_tasks() -> None:
    """Delete the queues, and on Redis all that has their prefix."""
    settings = of("app.core.celery_settings", "celery_settings")()
    with celery_channel() as channel:
        if not settings.uses_redis:
            for queue in settings.queues:
                channel.queue_delete(queue)
            return
        for key in channel.client.scan_iter(f"{settings.celery_key_prefix}*"):
            channel.client.unlink(key)  # to what `delete` is given kombu would add the prefix


@contextmanager
def celery_channel() -> Iterator[Any]:
    """A channel to Celery's broker."""
    celery_app = of("app.core.celery_app", "celery_app")
    with celery_app.connection_for_write() as connection:
        yield connection.default_channel


async def submit(name: str, ending: str, data: str) -> str:
    """Submit a job in a transaction that ends with commit or rollback; its id."""
    kind = of(f"app.tasks.{name}", name)
    payload = kind.payload.model_validate_json(data)
    async with of("replica", "transaction")(ending) as session:
        job = await of("app.core.job", "submit")(session, kind, payload, owner=OWNER)
    return str(job.id)

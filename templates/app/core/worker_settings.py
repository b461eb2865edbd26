"""Settings of the workers: a mix-in for the project's own `Settings`, checked as a whole when it starts.

Either let the project's class inherit it (`class Settings(WorkerSettings)`), or leave that class alone:
`worker_settings()` then reads the same environment and the same `.env` file.
"""

from __future__ import annotations

import difflib
import os
import re
from datetime import timedelta
from functools import cache
from typing import Self, TypeVar

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.outcomes import RefusedToStartError
from app.core.retry import RetryPolicy

S = TypeVar("S", bound=BaseSettings)

PREFIXES = ("worker_", "outbox_", "rabbitmq_")
SECRET = re.compile("URL|SECRET|PASSWORD|TOKEN|KEY", re.IGNORECASE)
# What others put there under our prefix: Kubernetes for a Service named "worker", and gunicorn's images.
FOREIGN = re.compile(
    r"(WORKER|OUTBOX)_((\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT(_\d+_\w+)?|CLASS|CONNECTIONS|TMP_DIR)"
)


class WorkerSettings(BaseSettings):
    """All durations are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    rabbitmq_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    rabbitmq_exchange: str = Field(default="events", min_length=1, max_length=100, pattern=r"^[\w.:-]+$")
    """The topic exchange that messages are sent to; names of other exchanges and queues begin with it."""
    rabbitmq_prefetch: int = Field(default=0, ge=0, le=5000)
    """Messages that a worker holds, those at work included; 0 is twice WORKER_CONCURRENCY."""
    rabbitmq_consumer_timeout_seconds: float = Field(default=1800, gt=0)
    """What the broker is set to (`consumer_timeout`): it closes the channel of who holds a message longer."""

    worker_concurrency: int = Field(default=10, ge=1, le=1000)
    """Messages in hand at once. The database pool should hold as many connections, and a few more."""
    worker_handler_timeout_seconds: float = Field(default=60, gt=0, le=3600)
    """A handler is stopped after this time and its message retried."""
    worker_lease_seconds: float = Field(default=15, ge=1, le=600)
    """A worker that was not heard of for this long is dead; others take over what it held."""
    worker_heartbeat_seconds: float = Field(default=5, gt=0)
    """How often a worker renews its lease on the messages in hand."""
    worker_max_deliveries: int = Field(default=8, ge=1, le=100)
    """Deliveries of one message, failed attempts and killed workers together, before it is set aside."""
    worker_retry_base_seconds: float = Field(default=5, gt=0)
    """Bound of the first random pause; it doubles with each attempt."""
    worker_retry_cap_seconds: float = Field(default=300, gt=0, le=86_400)
    """Bound of the longest random pause."""
    worker_drain_seconds: float = Field(default=20, ge=0, le=3600)
    """After SIGTERM: time for handlers to finish; the rest is handed back. Below the platform's grace."""
    worker_max_message_bytes: int = Field(default=262_144, ge=1024)
    """Larger messages are refused when sent and set aside when received."""
    worker_inbox_keep_days: float = Field(default=14, gt=0)
    """How long a done message is remembered: longer than any redelivery can be late."""
    worker_cron_grace_seconds: float = Field(default=60, ge=1, le=3600)
    """A tick of a cron job that is found later than this was missed: the job's `catch_up` decides."""
    worker_cron_keep_days: float = Field(default=30, ge=1)
    """How long the runs of cron jobs that have ended stay in the history."""
    worker_health_host: str = "127.0.0.1"
    """Address of /live and /ready; 0.0.0.0 when the platform probes from outside the machine."""
    worker_health_port: int = Field(default=8081, ge=0, le=65_535)
    """Port of /live and /ready; 0 turns them off."""
    worker_stall_seconds: float = Field(default=30, ge=1)
    """/live turns red when the event loop has been blocked for this long."""

    outbox_source: str = Field(default="/app", min_length=1, max_length=200, pattern=r"^\S+$")
    """The CloudEvents `source` of messages sent from here; another one for each application."""
    outbox_batch: int = Field(default=200, ge=1, le=5000)
    """Rows of one lane (of 16) that the relay sends in one transaction."""
    outbox_poll_seconds: float = Field(default=1, gt=0, le=60)
    """How long a row waits at most when the wake-up of LISTEN/NOTIFY is lost."""
    outbox_keep_hours: float = Field(default=24, gt=0)
    """How long sent rows are kept: a broker that lost its data within this time is filled again."""

    @property
    def retry_policy(self) -> RetryPolicy:
        """The pauses and the cap as one value."""
        return RetryPolicy(
            base=self.worker_retry_base_seconds,
            cap=self.worker_retry_cap_seconds,
            attempts=self.worker_max_deliveries,
        )

    @property
    def inbox_keep(self) -> timedelta:
        """`worker_inbox_keep_days` as a timedelta."""
        return timedelta(days=self.worker_inbox_keep_days)

    @property
    def outbox_keep(self) -> timedelta:
        """`outbox_keep_hours` as a timedelta."""
        return timedelta(hours=self.outbox_keep_hours)

    @field_validator("redis_url", "rabbitmq_url", mode="before")
    @classmethod
    def unset(cls, value: object, field: ValidationInfo) -> object:
        """An empty address is none: platforms set variables for services that are not there."""
        return cls.model_fields[str(field.field_name)].default if value == "" else value

    @field_validator("redis_url")
    @classmethod
    def check_redis_url(cls, value: SecretStr) -> SecretStr:
        """Refuse what is no address of a Redis."""
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("redis://, rediss:// or unix:// is needed")
        return value

    @field_validator("rabbitmq_url")
    @classmethod
    def check_rabbitmq_url(cls, value: SecretStr) -> SecretStr:
        """Refuse what is no address of a RabbitMQ."""
        if not value.get_secret_value().startswith(("amqp://", "amqps://")):
            raise ValueError("amqp:// or amqps:// is needed")
        return value

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Refuse values that are right alone and wrong together."""
        if problems := self._contradictions():
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> list[str]:
        problems = []
        if self.worker_lease_seconds < 2.5 * self.worker_heartbeat_seconds:
            problems.append(
                f"WORKER_LEASE_SECONDS={self.worker_lease_seconds:g}: at least 2.5 times "
                f"WORKER_HEARTBEAT_SECONDS ({self.worker_heartbeat_seconds:g}) is needed, "
                "or one late heartbeat gives work away that is still being done"
            )
        if self.worker_retry_cap_seconds < self.worker_retry_base_seconds:
            problems.append(
                f"WORKER_RETRY_CAP_SECONDS={self.worker_retry_cap_seconds:g}: at least "
                f"WORKER_RETRY_BASE_SECONDS ({self.worker_retry_base_seconds:g}) is needed"
            )
        if self.inbox_keep <= self.outbox_keep:
            problems.append(
                f"WORKER_INBOX_KEEP_DAYS={self.worker_inbox_keep_days:g}: more than OUTBOX_KEEP_HOURS "
                f"({self.outbox_keep_hours:g} h) is needed, or what is sent again is done again"
            )
        return problems


@cache
def worker_settings() -> WorkerSettings:
    """The project's settings when they inherit WorkerSettings, else the same environment read once.

    Raises pydantic's ValidationError; `refusals` turns it into lines for people.
    """
    # Not at import: the project's module may itself import this one.
    from app.core.config import settings

    if isinstance(settings, WorkerSettings):
        return settings
    env_file = type(settings).model_config.get("env_file")
    return WorkerSettings(_env_file=env_file)  # type: ignore[call-arg]  # a pydantic-settings argument


def checked(kind: type[S], prefix: str) -> S:
    """Further settings, with names of that prefix: the project's own when they inherit `kind`, else the same
    environment. Raises RefusedToStartError with a line for each that is wrong, or probably misspelt.
    """
    # Not at import, as above.
    from app.core.config import settings

    try:
        env_file = type(settings).model_config.get("env_file")
        found = settings if isinstance(settings, kind) else kind(_env_file=env_file)
        lines = look_alikes(type(found), prefix)
    except ValidationError as error:
        lines = [*describe(error), *look_alikes(kind, prefix)]
    if lines:
        raise RefusedToStartError("\n".join(["settings refused:", *lines])) from None
    return found


def refusals() -> list[str]:
    """Why the worker must not start: one line for each setting that is wrong or that nobody reads."""
    try:
        kind, lines = type(worker_settings()), []
    except ValidationError as error:
        kind, lines = WorkerSettings, describe(error)
    return [*lines, *unknown_names(kind)]


def describe(error: ValidationError) -> list[str]:
    """One line for each refused value: the name, the value, and what is allowed."""
    lines: list[str] = []
    for problem in error.errors(include_url=False):
        name = ".".join(map(str, problem["loc"])).upper()
        message = problem["msg"].removeprefix("Value error, ")
        lines += [f"{name}={shown(name, problem['input'])}: {message}"] if name else message.splitlines()
    return lines


def unknown_names(kind: type[WorkerSettings]) -> list[str]:
    """One line for each name with our prefix that is no setting: a misspelt one would silently do nothing."""
    known = {name.lower() for name in kind.model_fields}
    lines = []
    for name, value in sorted(given().items()):
        lower = name.lower()
        if lower.startswith(PREFIXES) and lower not in known and not FOREIGN.fullmatch(name):
            close = difflib.get_close_matches(lower, known, n=1)
            hint = (
                f"did you mean {close[0].upper()}?"
                if close
                else f"known are {', '.join(sorted(known)).upper()}"
            )
            lines.append(f"{name}={shown(name, value)}: unknown setting, {hint}")
    return lines


def look_alikes(kind: type[BaseSettings], prefix: str) -> list[str]:
    """One line for each name that looks like a setting of `kind` and is none. For prefixes that others use,
    too (Celery, Kubernetes, CI): what looks like nothing of ours is left alone.
    """
    known = sorted(name for name in kind.model_fields if name.startswith(prefix))
    lines = []
    for name, value in sorted(given().items()):
        lower = name.lower()
        if lower.startswith(prefix) and lower not in known:
            close = difflib.get_close_matches(lower, known, n=1, cutoff=0.8)
            close += [one for one in known if one.startswith(f"{lower}_")]
            if close:
                hint = f"did you mean {close[0].upper()}?"
                lines.append(f"{name}={shown(name, value)}: unknown setting, {hint}")
    return lines


def given() -> dict[str, str | None]:
    """What the environment and the project's `.env` files set."""
    from app.core.config import settings

    files = type(settings).model_config.get("env_file") or ()
    found: dict[str, str | None] = {}
    for file in (files,) if isinstance(files, str | os.PathLike) else files:
        found.update(dotenv_values(file))
    return {**found, **os.environ}


def shown(name: str, value: object) -> object:
    """The value, unless its name says that it is nobody's business."""
    return "…" if SECRET.search(name) else value

"""Settings of the Celery app and its workers, from the project's environment and `.env` file."""

from __future__ import annotations

from functools import cache

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.worker_settings import WorkerSettings, describe, look_alikes, worker_settings

PREFIX = "celery_"
# Time between two limits, for the clean-up of the one that comes first.
MARGIN = 2.0
RESTORE_EVERY = 5


class CelerySettings(BaseSettings):
    """All durations are in seconds."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    celery_broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/1")
    """A Redis, or a RabbitMQ. Celery reads the same variable, so the two never differ."""
    celery_key_prefix: str = Field(default="celery:", max_length=100)
    """Of every key in Redis: two applications in one database need different ones."""
    celery_queues: str = Field(default="tasks", pattern=r"^[\w.-]+(,[\w.-]+)*$")
    """All queues, separated by commas; the first is for tasks that name none. `worker -Q` takes some."""
    celery_concurrency: int = Field(default=4, ge=1, le=1000)
    """Tasks at once in one worker; `worker --concurrency` overrides it."""
    celery_soft_time_limit_seconds: float = Field(default=75, gt=0)
    """A task is cancelled then. Asynchronous handlers end before, by WORKER_HANDLER_TIMEOUT_SECONDS."""
    celery_time_limit_seconds: float = Field(default=90, gt=0)
    """The process of a task that did not heed the cancellation is killed then."""
    celery_visibility_timeout_seconds: float = Field(default=300, gt=0)
    """Redis gives a task that was not acknowledged for this long to another worker: what a dead worker held
    comes back then, and what a live one holds for longer runs twice.
    """
    celery_drain_seconds: float = Field(default=20, ge=0)
    """After SIGTERM: time for tasks to finish; the rest is handed back. Below the platform's grace."""
    celery_publish_timeout_seconds: float = Field(default=4, gt=0, le=60)
    """For one attempt to reach the broker; there are two."""
    celery_memory_limit_mb: int = Field(default=0, ge=0)
    """A child process above it is replaced after its task; 0 is no limit."""

    @field_validator("celery_broker_url")
    @classmethod
    def check_broker_url(cls, value: SecretStr) -> SecretStr:
        """Refuse brokers for which nothing here was tested."""
        if not value.get_secret_value().startswith(("redis://", "rediss://", "amqp://", "amqps://")):
            raise ValueError("redis://, rediss://, amqp:// or amqps:// is needed")
        return value

    @property
    def url(self) -> str:
        """The broker's address, with its password."""
        return self.celery_broker_url.get_secret_value()

    @property
    def uses_redis(self) -> bool:
        """Whether the broker is a Redis."""
        return self.url.startswith("redis")

    @property
    def queues(self) -> list[str]:
        """Names of all queues, the default one first."""
        return self.celery_queues.split(",")

    @property
    def longest_countdown(self) -> float:
        """For how long Celery may hold a task back. On Redis a worker has it meanwhile, unacknowledged until
        it is done: it may have to wait for a free process then, and has to run.
        """
        visible, hard = self.celery_visibility_timeout_seconds, self.celery_time_limit_seconds
        return min(visible / 2, visible - 2 * hard)

    def contradictions(self, worker: WorkerSettings, limit: float = 0) -> list[str]:
        """Why a worker must not start: one line for each limit that comes before the one that it backs up.

        `limit` is the longest hard time limit that a task has for itself.
        """
        handler, soft = worker.worker_handler_timeout_seconds, self.celery_soft_time_limit_seconds
        hard, longest = self.celery_time_limit_seconds, max(limit, self.celery_time_limit_seconds)
        visible, held = self.celery_visibility_timeout_seconds, worker.rabbitmq_consumer_timeout_seconds
        twice = f"with a time limit of {longest:g}, or a task that takes its time runs twice"
        rules = [
            (
                "CELERY_SOFT_TIME_LIMIT_SECONDS",
                soft,
                handler,
                f"over WORKER_HANDLER_TIMEOUT_SECONDS={handler:g}",
            ),
            ("CELERY_TIME_LIMIT_SECONDS", hard, soft, f"over CELERY_SOFT_TIME_LIMIT_SECONDS={soft:g}"),
            ("CELERY_VISIBILITY_TIMEOUT_SECONDS", visible, 2 * longest, twice)
            if self.uses_redis
            else ("RABBITMQ_CONSUMER_TIMEOUT_SECONDS", held, longest, twice),
        ]
        return [
            f"{name}={value:g}: at least {below + MARGIN:g} is needed {why}"
            for name, value, below, why in rules
            if value < below + MARGIN
        ]


@cache
def celery_settings() -> CelerySettings:
    """The environment and the project's `.env` file, read once. Raises pydantic's ValidationError."""
    from app.core.config import settings

    env_file = type(settings).model_config.get("env_file")
    return CelerySettings(_env_file=env_file)  # type: ignore[call-arg]  # a pydantic-settings argument


def refusals(limit: float = 0) -> list[str]:
    """Why a Celery worker must not start: one line for each setting that is wrong, or probably misspelt.

    `limit` is the longest hard time limit that a task has for itself.
    """
    try:
        lines = celery_settings().contradictions(worker_settings(), limit)
    except ValidationError as error:
        lines = describe(error)
    return [*lines, *look_alikes(CelerySettings, PREFIX)]

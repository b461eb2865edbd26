"""Settings of long-running jobs, read from the same environment and `.env` file as the project's own."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Self

from pydantic import Field, PositiveInt, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.outcomes import RefusedToStartError
from app.core.worker_settings import describe


class JobSettings(BaseSettings):
    """All durations are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    job_lease_seconds: float = Field(default=30, ge=1, le=600)
    """A worker that was not heard of for this long is dead, and its jobs are queued again."""
    job_overtaken_seconds: float = Field(default=20, ge=0.5, le=3600)
    """A job is sent again when it has not started after this time, and one that was sent later has."""
    job_lonely_seconds: float = Field(default=30, ge=0.5, le=3600)
    """A job is sent again when it has not started after this time, and no other of its queue has."""
    job_poll_seconds: float = Field(default=1, gt=0, le=60)
    """How often a dispatcher looks for what is due, and a worker for what was cancelled."""
    job_batch: int = Field(default=200, ge=1, le=5000)
    """Jobs that a dispatcher sends in one turn."""
    job_concurrency: int = Field(default=200, ge=1, le=10_000)
    """Jobs that one worker process claims and runs at once (`via` table)."""
    job_per_owner: int = Field(default=50, ge=1, le=10_000)
    """Jobs of one owner and queue that run at once, in all workers together."""
    job_limits: dict[str, PositiveInt] = {}
    """Jobs of a queue that run at once in all workers together, as JSON: {"llm": 300}. Without an entry there
    is no limit.
    """
    job_flush_seconds: float = Field(default=0.2, ge=0.01, le=10)
    """How often a worker writes the events of its jobs, such as the tokens that a model has sent."""
    job_keep_days: float = Field(default=30, gt=0)
    """How long a job that has ended, and its idempotency key, are remembered."""

    @property
    def lease(self) -> timedelta:
        """`job_lease_seconds` as a timedelta."""
        return timedelta(seconds=self.job_lease_seconds)

    @property
    def keep(self) -> timedelta:
        """`job_keep_days` as a timedelta."""
        return timedelta(days=self.job_keep_days)

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Refuse values that are right alone and wrong together."""
        if self.job_lease_seconds < 3 * self.job_poll_seconds:
            raise ValueError(
                f"JOB_LEASE_SECONDS={self.job_lease_seconds:g}: at least 3 times JOB_POLL_SECONDS "
                f"({self.job_poll_seconds:g}) is needed, or one late heartbeat gives work away "
                "that is still being done"
            )
        return self


@cache
def job_settings() -> JobSettings:
    """The settings, read once. Raises RefusedToStartError with a line for each that is wrong."""
    # Not at import: the project's module may itself import workers.
    from app.core.config import settings

    if isinstance(settings, JobSettings):
        return settings
    env_file = type(settings).model_config.get("env_file")
    try:
        return JobSettings(_env_file=env_file)  # type: ignore[call-arg]  # a pydantic-settings argument
    except ValidationError as error:
        raise RefusedToStartError("\n".join(["settings refused:", *describe(error)])) from None

"""The Celery task that runs jobs of all kinds; its message holds nothing but a job's id."""

from __future__ import annotations

import sys
import uuid
from functools import cache
from typing import Any

from celery import signals
from celery.app.task import Task

from app.core.celery_app import EXIT_SETTINGS, celery_app
from app.core.celery_loop import run
from app.core.celery_settings import celery_settings
from app.core.job import KINDS
from app.core.job_celery import RUN
from app.core.job_runner import JobRunner
from app.core.job_settings import job_settings
from app.core.outcomes import RefusedToStartError

# Jobs are stopped by their own timeout. Celery's limits are for those that block the event loop.
SOFT_AFTER, HARD_AFTER = 5.0, 10.0


class JobTask(Task[Any, None]):
    """Its limits leave room for the kind that takes longest."""

    starts_once = True

    @property
    def soft_time_limit(self) -> float:  # type: ignore[override]  # Celery reads it at each task
        """See Celery."""
        return max(celery_settings().celery_soft_time_limit_seconds, longest() + SOFT_AFTER)

    @property
    def time_limit(self) -> float:  # type: ignore[override]
        """See Celery."""
        return max(celery_settings().celery_time_limit_seconds, longest() + HARD_AFTER)


@signals.celeryd_init.connect(weak=False)
def check_settings(**_: Any) -> None:
    """A worker whose settings are refused does not start."""
    try:
        job_settings()
    except RefusedToStartError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_SETTINGS) from None


def longest() -> float:
    """Seconds that an attempt may take."""
    return max((kind.seconds for kind in KINDS.values() if kind.via == "celery"), default=0.0)


@cache
def runner() -> JobRunner:
    """The runner of this process; the first job makes it, after the fork."""
    return JobRunner(job_settings())


async def run_one(id_: uuid.UUID) -> None:
    """Make an attempt at a job."""
    await runner().run(id_)


# A message that was lost with its worker need not come back: the row's lease sees to the job.
@celery_app.task(name=RUN, base=JobTask, reject_on_worker_lost=False, retry_on_worker_lost=False)
def run_job(id_: str) -> None:
    """Nothing is returned or raised that anybody waits for: the record is the job's row."""
    run(run_one, uuid.UUID(id_))

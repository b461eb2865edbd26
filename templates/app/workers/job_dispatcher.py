"""Sends jobs that are due to Celery, and sends again what got lost."""

from __future__ import annotations

from app.core.job_celery import CeleryCarrier
from app.core.job_dispatcher import JobDispatcher
from app.core.job_settings import job_settings


def worker() -> JobDispatcher:
    """What `python -m app.workers.run job_dispatcher` runs."""
    return JobDispatcher(CeleryCarrier(), job_settings())

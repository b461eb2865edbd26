"""Runs the cron jobs of `app.jobs`."""

from __future__ import annotations

from app.core.cron_jobs import collect
from app.core.cron_scheduler import CronScheduler


def worker() -> CronScheduler:
    """What `python -m app.workers.run scheduler` runs."""
    return CronScheduler(collect())

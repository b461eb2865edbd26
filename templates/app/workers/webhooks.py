"""Delivers webhooks."""

from __future__ import annotations

from app.core import webhooks
from app.core.job_worker import JobWorker
from app.core.webhook_settings import webhook_settings


def worker() -> JobWorker:
    """What `python -m app.workers.run webhooks` runs: deliveries, and what else this process knows."""
    assert webhooks.deliver.via == "table"  # imported, so that its kind is known
    webhook_settings()  # settings that are refused are refused now
    return JobWorker()

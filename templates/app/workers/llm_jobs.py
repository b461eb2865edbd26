"""Runs the long calls of language models, those of `app.llm`: hundreds at once in one process."""

from __future__ import annotations

import importlib
import pkgutil

import app.llm
from app.core.job_worker import JobWorker
from app.core.llm import provider


def worker() -> JobWorker:
    """What `python -m app.workers.run llm_jobs` runs."""
    for module in pkgutil.iter_modules(app.llm.__path__):
        importlib.import_module(f"app.llm.{module.name}")
    provider()  # settings that are refused are refused now
    return JobWorker()

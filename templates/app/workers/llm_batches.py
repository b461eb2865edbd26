"""Asks the provider of language models for many answers in one batch: for those jobs that can wait."""

from __future__ import annotations

import importlib

from app.core.llm_batch_settings import llm_batch_settings
from app.core.llm_batch_worker import BatchWorker
from app.core.llm_batches import batches
from app.core.llm_settings import llm_settings
from app.core.outcomes import RefusedToStartError
from app.workers.llm_jobs import modules


def worker() -> BatchWorker:
    """What `python -m app.workers.run llm_batches` runs, beside `llm_jobs`. Raises RefusedToStartError for a
    job or a setting that makes no sense.
    """
    try:
        for name in modules():
            importlib.import_module(name)
    except ValueError as error:
        raise RefusedToStartError(f"LLM jobs refused: {error}") from error
    return BatchWorker(batches(llm_settings()), llm_batch_settings())

"""Runs the long calls of language models, those of `app.llm`: hundreds at once in one process."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

from app.core.job_worker import JobWorker
from app.core.llm import provider
from app.core.outcomes import RefusedToStartError

FOLDER = "app.llm"


def worker() -> JobWorker:
    """What `python -m app.workers.run llm_jobs` runs. Raises RefusedToStartError for a job or a setting that
    makes no sense.
    """
    try:
        for name in modules():
            importlib.import_module(name)
    except ValueError as error:
        raise RefusedToStartError(f"LLM jobs refused: {error}") from error
    provider()
    return JobWorker()


def modules() -> list[str]:
    """The dotted names of the modules that define jobs; those that begin with an underscore are helpers."""
    spec = importlib.util.find_spec(FOLDER)
    if spec is None:
        return []
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return sorted(f"{FOLDER}.{module.name}" for module in found if not module.name.startswith("_"))

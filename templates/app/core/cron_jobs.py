"""Finds the jobs of the project: every module of `app.jobs` defines one, as `job`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections import Counter

from app.core.cron_job import CronJob
from app.core.outcomes import RefusedToStartError

FOLDER = "app.jobs"


def collect() -> list[CronJob]:
    """All jobs, by name. Raises RefusedToStartError with a line for each definition that makes no sense.

    Modules whose name begins with an underscore are helpers and are left alone.
    """
    jobs: list[CronJob] = []
    problems: list[str] = []
    for module in modules():
        try:
            job = getattr(importlib.import_module(module), "job", None)
        except ValueError as error:
            problems.append(f"{module}: {error}")
            continue
        if isinstance(job, CronJob):
            jobs.append(job)
        else:
            problems.append(f"{module}: `job = CronJob(...)` is needed; the name of a helper begins with _")
    twice = [name for name, count in Counter(job.name for job in jobs).items() if count > 1]
    problems += [f"{FOLDER}: several jobs are named {name!r}" for name in twice]
    if problems:
        raise RefusedToStartError("\n".join(["cron jobs refused:", *problems]))
    return sorted(jobs, key=lambda job: job.name)


def modules() -> list[str]:
    """The dotted names of the modules that define jobs."""
    spec = importlib.util.find_spec(FOLDER)
    if spec is None:
        return []
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return sorted(f"{FOLDER}.{module.name}" for module in found if not module.name.startswith("_"))

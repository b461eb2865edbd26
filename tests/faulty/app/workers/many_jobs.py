"""A scheduler of many faulty jobs, FAULTY_JOBS of them."""

import importlib
import os

from app.core.cron_scheduler import CronScheduler

# The type checker does not look for `app` here.
make = importlib.import_module("app.jobs.faulty").make


def worker() -> CronScheduler:
    """What the fault tests run."""
    return CronScheduler([make(f"many_{number:03}") for number in range(int(os.environ["FAULTY_JOBS"]))])

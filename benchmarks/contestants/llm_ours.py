"""The templates as they are: the worker `llm_jobs` with its kind that summarises documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core.lifecycle import supervise
from app.core.worker_settings import worker_settings
from app.workers.llm_jobs import worker

if TYPE_CHECKING:
    from benchmarks.counter import Counter
    from benchmarks.spec import Spec


async def consume(_: Spec, __: Counter) -> None:
    """Run the worker until it is killed; what is done is in the table."""
    await supervise([worker()], worker_settings())

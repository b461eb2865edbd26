"""Runs cron jobs inside the API's process, for a small application that has only that one.

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(CronScheduler(collect())):
            yield
        await engine.dispose()

Several API processes are harmless: each tick is run by one of them. A process of its own
(`python -m app.workers.run scheduler`) is better once a job is busy: it would slow down requests here.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.core.lifecycle import Worker
from app.core.outcomes import RefusedToStartError
from app.core.worker_settings import refusals

logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    """Run `worker` as long as the block does, then let it finish or hand back what it is at.

    When it fails the process is asked to end: one that only looks alive would run no job any more.
    Raises RefusedToStartError when the settings are refused.
    """
    if lines := refusals():
        raise RefusedToStartError("\n".join(["settings refused:", *lines]))
    stop = asyncio.Event()
    task = asyncio.ensure_future(worker.run(stop))
    task.add_done_callback(lambda _: None if stop.is_set() else fail(task))
    try:
        yield worker
    finally:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s ended with an error", worker.name, exc_info=error)


def fail(task: asyncio.Task[None]) -> None:
    """End the process in order; whoever watches over it starts it again."""
    error = None if task.cancelled() else task.exception()
    logger.critical("the scheduler ended without being asked, the process ends", exc_info=error)
    signal.raise_signal(signal.SIGTERM)

"""SAQ's cron jobs on Redis. It has an environment of its own, as in `saq`.

Each of its workers schedules; a job's key keeps it from being there twice. It looks once a second, and puts
in a job's next tick when the last one has ended: of ticks that are due every second it runs every other one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from saq import CronJob, Queue, Worker

if TYPE_CHECKING:
    from benchmarks.ticks import Lags, TickSpec


def job_for(number: int, lags: Lags) -> Callable[..., Awaitable[None]]:
    """A job; it is known by its function's name."""

    async def tick(context: Any) -> None:
        lags.begun(float(context["job"].scheduled))

    tick.__qualname__ = tick.__name__ = f"bench_{number}"
    return tick


async def run(spec: TickSpec, lags: Lags) -> None:
    """Run the worker until all is measured."""
    queue = Queue.from_url(spec.redis_url, name="bench", max_concurrent_ops=20)
    jobs = [CronJob(job_for(number, lags), cron="* * * * * *") for number in range(spec.jobs)]
    worker = Worker[Any](queue, [], cron_jobs=jobs, concurrency=20)
    running = asyncio.create_task(worker.start())
    await asyncio.wait([running, asyncio.create_task(lags.ended.wait())], return_when="FIRST_COMPLETED")
    await worker.stop()
    await running
    await queue.disconnect()

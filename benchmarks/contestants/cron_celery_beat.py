"""Celery's beat, sending to one worker over Redis. One beat only, and what it fails to send is lost.

Each of its intervals begins when the one before was noticed to be over, so that it drifts: a tick counts as
due a whole number of seconds after the job's first one, whose own lag is not known; some lags are negative.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.beat import Scheduler

if TYPE_CHECKING:
    from benchmarks.ticks import Lags, TickSpec


def app_for(spec: TickSpec) -> Any:
    """The application."""
    app = Celery("bench", broker=spec.redis_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        beat_max_loop_interval=1,
        beat_schedule={
            f"bench_{number}": {"task": "bench.tick", "schedule": 1.0, "args": (number,)}
            for number in range(spec.jobs)
        },
    )
    return app


async def run(spec: TickSpec, lags: Lags) -> None:
    """Measure Celery's own scheduler."""
    await play(app_for(spec), Scheduler, lags)


async def play(app: Any, scheduler: type[Any], lags: Lags) -> None:
    """Run beat and worker in threads until all is measured. They go down with the process."""
    logging.disable(logging.INFO)
    loop = asyncio.get_running_loop()
    first: dict[int, float] = {}

    def tick(number: int) -> None:
        now = time.time()
        due = first.setdefault(number, now)
        loop.call_soon_threadsafe(lags.begun, due + round(now - due))

    app.task(tick, name="bench.tick")
    worker = app.WorkController(
        pool="solo", concurrency=1, without_gossip=True, without_mingle=True, without_heartbeat=True
    )
    beat = app.Beat(scheduler_cls=scheduler).Service(app, scheduler_cls=scheduler)
    threads = [asyncio.to_thread(worker.start), asyncio.to_thread(beat.start)]
    running = [asyncio.ensure_future(thread) for thread in threads]
    await asyncio.wait([*running, asyncio.ensure_future(lags.ended.wait())], return_when="FIRST_COMPLETED")
    beat.stop()
    worker.stop()

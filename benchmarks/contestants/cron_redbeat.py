"""RedBeat: Celery's beat with its schedule in Redis, and a lock there, so that a second one stands by.

What a beat that dies has not sent is sent by the other when the lock has run out; ticks in between are not
made up. Lags are counted as in `cron_celery_beat`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redbeat import RedBeatScheduler

from benchmarks.contestants.cron_celery_beat import app_for, play

if TYPE_CHECKING:
    from benchmarks.ticks import Lags, TickSpec


async def run(spec: TickSpec, lags: Lags) -> None:
    """Measure its scheduler."""
    app = app_for(spec)
    app.conf.update(redbeat_redis_url=spec.redis_url, redbeat_redis_options={}, redbeat_lock_timeout=30)
    await play(app, RedBeatScheduler, lags)

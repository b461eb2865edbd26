"""`--serve`: everything goes on running, for a look around."""

from __future__ import annotations

import asyncio
import os
import sys

from demo.mail import Mail
from demo.news import News
from demo.postgres import DATABASE, Postgres
from demo.redis_server import RedisServer
from demo.replicas import Supervisor
from demo.shop import Shop
from demo.stage import Stage


def overview(
    shop: Shop,
    postgres: Postgres,
    redis: RedisServer,
    workers: Supervisor,
    stage: Stage,
    *,
    mail: Mail | None,
) -> list[str]:
    """Where everything is, and how to stop it."""
    second = [("second API", f"{mail.shop.api_url}/docs"), ("rabbitmq", mail.rabbit.url)] if mail else []
    replicas = [*workers.replicas, *(mail.workers.replicas if mail else [])]
    rows = [
        ("API", f"{shop.api_url}/docs"),
        ("world", f"{shop.world_url}/calls"),
        *second,
        *((r.name, f"{r.health_url}  pid {r.process.pid}") for r in replicas),
        ("redis", f"{redis.url}  pid {redis.process.pid}"),
        ("postgres", f"psql -h {postgres.folder} -U postgres {DATABASE}"),
        ("shop", str(shop.folder)),
        ("logs", str(stage.logs)),
    ]
    return [
        "Everything goes on; a worker that you kill is started again.",
        *(f"  {name:<20}{place}" for name, place in rows),
        f"To stop: Ctrl-C here, or kill {os.getpid()}",
    ]


async def until_stopped(news: News) -> None:
    """Wait for Ctrl-C. News go to stderr: the ledger stays the last line of stdout."""
    told = len(news.events)
    try:
        while True:
            for event in news.events[told:]:
                sys.stderr.write(f"  {event}\n")
            told = len(news.events)
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        me = asyncio.current_task()
        assert me is not None
        me.uncancel()  # this was the way to end well
        sys.stderr.write("ending what was started\n")

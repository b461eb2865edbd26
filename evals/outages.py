"""Servers go away, fall silent or forget, and come back, while work is in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from evals.stage import Stage

AWAY_SECONDS = 25.0
SILENT_SECONDS = 45.0
BROKER_SECONDS = 10.0

Meanwhile = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """What happens meanwhile, where nothing does."""


async def database_away(stage: Stage, meanwhile: Meanwhile = nothing) -> None:
    """PostgreSQL is killed, and is back after a while."""
    postgres = stage.servers.postgres
    await asyncio.to_thread(postgres.kill)
    await meanwhile()
    await stage.keep_up_for(AWAY_SECONDS * stage.pace)
    await asyncio.to_thread(postgres.start)


async def database_silent(stage: Stage, meanwhile: Meanwhile = nothing) -> None:
    """PostgreSQL keeps its connections and answers nothing: no client gets an error by itself."""
    postgres = stage.servers.postgres
    await asyncio.to_thread(postgres.pause)
    await meanwhile()
    await stage.keep_up_for(SILENT_SECONDS * stage.pace)
    await asyncio.to_thread(postgres.resume)


async def brokers_restart(stage: Stage, *, forget: bool = False) -> None:
    """Redis and, where there is one, RabbitMQ are killed, and are back after a while with what they kept.

    forget: Redis comes back empty, as after the loss of its machine.
    """
    redis, rabbit = stage.servers.redis, stage.servers.rabbit
    servers = [server for server in (redis, rabbit) if server is not None]
    for server in servers:
        await asyncio.to_thread(server.kill)
    if forget:
        redis.wipe()
    await stage.keep_up_for(BROKER_SECONDS * stage.pace)
    for server in servers:
        await asyncio.to_thread(server.start)

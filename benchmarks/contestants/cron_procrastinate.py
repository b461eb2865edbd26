"""procrastinate's periodic tasks: a row in PostgreSQL for each tick, once, as with us.

It wakes half a second after the second, on purpose (`MARGIN` in its periodic.py, 3.10).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from procrastinate import App, PsycopgConnector

if TYPE_CHECKING:
    from benchmarks.ticks import Lags, TickSpec


async def run(spec: TickSpec, lags: Lags) -> None:
    """Run the worker until all is measured."""
    url = os.environ["DATABASE_URL"].replace("postgresql+asyncpg", "postgresql")
    app = App(connector=PsycopgConnector(conninfo=url, max_size=20))

    async def tick(timestamp: int) -> None:
        lags.begun(float(timestamp))

    for number in range(spec.jobs):
        app.periodic(cron="* * * * * *")(app.task(name=f"bench_{number}", pass_context=False)(tick))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        working = asyncio.ensure_future(
            app.run_worker_async(concurrency=20, install_signal_handlers=False, fetch_job_polling_interval=1)
        )
        await asyncio.wait([working, asyncio.ensure_future(lags.ended.wait())], return_when="FIRST_COMPLETED")
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

"""procrastinate: jobs are rows in PostgreSQL, as with us, and there is no other broker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.doing import doing
from benchmarks.spec import Spec
from benchmarks.work import Work

TASK = "bench_work"
MOST_CONNECTIONS = 40


def app_for(spec: Spec) -> Any:
    """The application, for both sides."""
    url = os.environ["DATABASE_URL"].replace("postgresql+asyncpg", "postgresql")
    return App(connector=PsycopgConnector(conninfo=url, max_size=min(spec.concurrency + 2, MOST_CONNECTIONS)))


async def consume(spec: Spec, meter: Any) -> None:
    """Run a worker until it is killed."""
    app = app_for(spec)
    do = None if spec.task == "noop" else doing(spec.task)

    async def handle(order_id: int) -> None:
        if do is not None:
            await do(str(order_id), order_id)
        meter.done(0.0)

    app.task(name=TASK, pass_context=False)(handle)
    async with app.open_async():
        await app.run_worker_async(concurrency=spec.concurrency, install_signal_handlers=False)
    await asyncio.Event().wait()


class Publisher:
    """procrastinate's own client, many jobs in one statement."""

    def __init__(self, spec: Spec) -> None:
        self._app = app_for(spec)
        self._open = False

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        if not self._open:
            self._open = True
            await self._app.open_async()
            await self._app.schema_manager.apply_schema_async()
        jobs: list[dict[str, Any]] = [{"order_id": work.order_id} for work in batch]
        await self._app.configure_task(TASK).batch_defer_async(*jobs)

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        await self._app.close_async()

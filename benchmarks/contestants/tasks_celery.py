"""Celery, written by hand: as its first-steps guide has it, and with the settings of the templates.

tasks_guide    as in the guide: an app with a broker and nothing else; tasks that block
tasks_sync     the templates' settings; tasks that block, with psycopg
tasks_bridge   the same settings; async services through `celery_loop.run`
tasks_run      the same settings; async services through `asyncio.run`, with an engine for each task
tasks_same     the same settings; through `run`, and the writes of a tracked task
llm_prefork, llm_threads   calls of language models that block
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from celery import Celery, signals

from app.core import job_store
from app.core.celery_app import celery_app
from app.core.celery_loop import run
from app.core.database import engine, get_session, session_factory
from app.services.orders import OrderService
from benchmarks.counter import Counter
from benchmarks.spec import Spec
from benchmarks.work import Work

TASK = "bench.work"
LEASE = timedelta(seconds=30)
DOES_NOTHING = "noop"


def start(app: Any, spec: Spec, counter: Counter) -> None:
    """Run a worker of `app` until it is killed; a task is counted when it has succeeded."""

    def count(**_: Any) -> None:
        counter.done()

    logging.disable(logging.WARNING)
    signals.task_success.connect(count, weak=False)
    pool = "threads" if spec.contestant == "llm_threads" else "prefork"
    app.worker_main(
        [
            "worker",
            "--pool",
            pool,
            "--concurrency",
            str(spec.concurrency),
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel",
            "ERROR",
        ]
    )


def app_for(spec: Spec) -> Any:
    """The application, for both sides."""
    app = celery_app
    if spec.contestant == "tasks_guide":
        app = Celery("tasks", broker=os.environ["CELERY_BROKER_URL"])
    app.task(name=TASK)(task_of(spec))
    return app


def task_of(spec: Spec) -> Callable[[int], object]:
    """The task's function."""
    works = spec.task != DOES_NOTHING
    match spec.contestant:
        case "tasks_bridge":
            return through(run, write if works else nothing)
        case "tasks_run":
            return through(alone, write if works else nothing)
        case "tasks_same":
            return through(run, tracked if works else tracked_nothing)
        case "llm_prefork" | "llm_threads":
            from benchmarks.calling import call_blocking

            return call_blocking
        case _:
            if not works:
                return blocking_nothing
            from benchmarks.writing_blocking import write_blocking

            return write_blocking


def through(way: Callable[..., object], work: Callable[[int], Any]) -> Callable[[int], object]:
    """A task that has `work` done in a certain way."""

    def task(order_id: int) -> None:
        way(work, order_id)

    return task


def serve(spec: Spec, counter: Counter) -> None:
    """Run a worker until it is killed."""
    start(app_for(spec), spec, counter)


# -- work ------------------------------------------------------------------------------------------------


def blocking_nothing(order_id: int) -> None:
    """The payload is not looked at."""


async def nothing(order_id: int) -> None:
    """The same, on an event loop."""


async def write(order_id: int) -> None:
    """What everybody writes."""
    from benchmarks.writing import write as write_once

    await write_once(str(order_id), order_id)


def alone(work: Callable[[int], Any], order_id: int) -> None:
    """An event loop and an engine for this task: pooled connections would belong to a loop that is gone."""

    async def once() -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        mine = create_async_engine(engine.url, pool_pre_ping=True)
        session_factory.configure(bind=mine)
        try:
            await work(order_id)
        finally:
            await mine.dispose()

    asyncio.run(once())


async def tracked(order_id: int) -> None:
    """A job's row says that it runs; then the service's write and the row's end are one transaction."""
    await claim_and_finish(order_id, works=True)


async def tracked_nothing(order_id: int) -> None:
    """The same without the service."""
    await claim_and_finish(order_id, works=False)


async def claim_and_finish(order_id: int, *, works: bool) -> None:
    """The statements of a tracked task, and nothing around them."""
    id_ = uuid.UUID(int=order_id)
    async with get_session() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        values = {"id": id_, "runner": "me", "lease": LEASE}
        row = (await session.execute(job_store.CLAIM, values)).one()
    async with get_session() as session:
        await session.execute(job_store.BEGIN, {"name": f"job {id_}", "idle": "65000ms"})
        if works:
            await OrderService(session).process(row.payload["order_id"])
        finished = {"id": id_, "attempt": row.attempt, "result": None}
        (await session.execute(job_store.FINISH, finished)).one()


class Publisher:
    """Celery's own client, over one connection."""

    def __init__(self, spec: Spec) -> None:
        self._app = app_for(spec)

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        with self._app.producer_or_acquire() as producer:
            for work in batch:
                self._app.send_task(TASK, [work.order_id], producer=producer, ignore_result=True)

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        self._app.close()

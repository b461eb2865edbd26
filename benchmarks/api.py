"""The API that is asked: a row in a transaction, one of ours, Celery beside it, and followers of jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from celery import Celery
from fastapi import FastAPI, Header
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.job_events import job_events_router
from app.core.database import get_session
from app.core.job import JobContext, JobKind, submit
from app.core.outbox import enqueue
from benchmarks.work import TYPE, Work

INSERT = text("INSERT INTO customer_order (customer_id, status, total_cents) VALUES (1, 'placed', 100)")
celery = Celery("bench", broker=os.environ["CELERY_BROKER_URL"])
app = FastAPI()


async def work(_: JobContext[Work], __: AsyncSession) -> None:
    """Nobody runs it here."""


KINDS: dict[str, JobKind[Work]] = {
    "submit": JobKind(TYPE, Work, work),
    "submit, from the table": JobKind("bench.long_work.v1", Work, work, via="table"),
}


@celery.task(name="bench.work")
def task(order_id: int) -> None:
    """Nobody runs it here."""


async def insert(session: AsyncSession) -> object:
    """One row of the shop's, which has three indexes."""
    return await session.execute(INSERT)


async def send(session: AsyncSession) -> object:
    """A message."""
    return await enqueue(session, TYPE, Work(order_id=1))


def submitting(name: str) -> Callable[[AsyncSession], Awaitable[object]]:
    """A job."""

    async def submit_one(session: AsyncSession) -> object:
        return await submit(session, KINDS[name], Work(order_id=1), owner="bench")

    return submit_one


WAYS: dict[str, Callable[[AsyncSession], Awaitable[object]]] = {
    "insert": insert,
    "enqueue": send,
    **{name: submitting(name) for name in KINDS},
}


@app.post("/ways/{way}", status_code=202)
async def accept(way: str) -> dict[str, str]:
    """A transaction with one statement; or none, and Celery's own call."""
    if way == "delay":
        await asyncio.to_thread(task.delay, 1)
    else:
        async with get_session() as session:
            await WAYS[way](session)
    return {"status": "accepted"}


@app.get("/health")
async def health() -> dict[str, str]:
    """It runs."""
    return {"status": "ok"}


def current_owner(x_user: Annotated[str, Header()] = "bench") -> Any:
    """Everything is the same owner's."""
    return x_user


app.include_router(job_events_router(current_owner))

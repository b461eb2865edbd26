"""A job for the fault tests: the environment gives its policies, a file says what goes wrong."""

import asyncio
import os
import signal
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron import Cron
from app.core.cron_job import CronJob, Tick
from app.core.interval import Every
from app.core.outbox import enqueue
from app.core.outcomes import Dead, Outcome, Postpone, TransientError
from app.repositories.orders import OrderRepository
from app.services.emails import EmailService
from app.services.orders import OrderService
from support.mischief import FOLDER, block, note, until_released


class Ticked(BaseModel):
    """Payload of `shop.work.v1`, for the faulty consumer."""

    order_id: int


async def run(tick: Tick, session: AsyncSession) -> Outcome | None:
    """The effect is one event of order 1; before or after it something may go wrong."""
    note(f"{tick.job} {tick.due_at.timestamp():.0f} {tick.attempt} {os.getpid()}", "ticks")
    do, *words = what_to_do()
    if do != "email":
        await OrderRepository(session).add_event(1, "tick", f"{tick.job} {tick.due_at.timestamp():.0f}")
    match do:
        case "email":
            await EmailService(session).send(1, "receipt", idempotency_key=tick.idempotency_key)
        case "flap" if tick.attempt <= int(words[0]):
            raise TransientError("not yet")
        case "fail":
            return Dead("it cannot be done")
        case "postpone" if tick.attempt <= int(words[0]):
            return Postpone("not now", 0.1)
        case "query":
            await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": float(words[0])})
        case "lock":
            await OrderService(session).process(1)
            await until_released()
        case "anonymous":  # so that whoever takes over cannot end this session
            await session.execute(text("SELECT set_config('application_name', 'anonymous', true)"))
            await until_released()
        case "enqueue":
            await enqueue(session, "shop.work.v1", Ticked(order_id=int(tick.due_at.timestamp())))
            await misbehave(words[0] if words else "", [])
        case _:
            await misbehave(do, words)
    return None


async def misbehave(do: str, words: list[str]) -> None:
    """What has nothing to do with the tick or the database."""
    match do:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            await asyncio.sleep(float(words[0]))
        case "wait":
            await until_released()
        case "block":
            block(float(words[0]))
        case "bug":
            raise KeyError("a bug")


def what_to_do() -> list[str]:
    """The words of the file `do`."""
    file = FOLDER / "do"
    return (file.read_text().split() if file.exists() else []) or ["well"]


def make(name: str) -> CronJob:
    """A job that behaves as the environment says."""
    given = os.environ.get
    policies: dict[str, Any] = {
        "overlap": given("FAULTY_OVERLAP", "wait"),
        "catch_up": given("FAULTY_CATCH_UP", "all"),
        "within": timedelta(seconds=float(given("FAULTY_WITHIN", "86400"))),
        "deadline": timedelta(seconds=float(given("FAULTY_DEADLINE", "600"))),
        "jitter": timedelta(seconds=float(given("FAULTY_JITTER", "0"))),
    }
    cron, zone = given("FAULTY_CRON", ""), given("FAULTY_ZONE", "UTC")
    every = timedelta(seconds=float(given("FAULTY_EVERY", "1")))
    return CronJob(name, Cron(cron, zone) if cron else Every(every), run, **policies)


job = make(os.environ.get("FAULTY_JOB", "faulty"))

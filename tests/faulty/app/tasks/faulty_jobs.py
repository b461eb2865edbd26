"""Jobs for the fault tests: the payload says what goes wrong, the effect is one event of an order."""

import asyncio
import os
import signal
import time
from datetime import timedelta

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.job import JobContext, job
from app.core.outcomes import Outcome, TransientError
from app.repositories.orders import OrderRepository
from app.services.payments import PaymentService
from support.mischief import FOLDER, note, until_released


class Work(BaseModel):
    """What to do with one order."""

    order_id: int
    do: str = "well"
    seconds: float = 0
    times: int = 1


class Worked(BaseModel):
    """The result."""

    order_id: int


@job(
    "test.work.v1",
    Work,
    timeout=timedelta(seconds=float(os.environ.get("FAULTY_TIMEOUT", "1"))),
    deadline=timedelta(minutes=10),
)
async def faulty_job(context: JobContext[Work], session: AsyncSession) -> Worked | Outcome:
    """Before or after the effect something may go wrong."""
    work = context.data
    note(f"{work.order_id} {context.attempt} {os.getpid()}")
    if outcome := await misbehave(context, session):
        return outcome
    if work.do == "late":  # what the next attempt has to wait for
        lock = text("SELECT 1 FROM customer_order WHERE id = :id FOR UPDATE")
        await session.execute(lock, {"id": work.order_id})
    if work.do != "pay":
        await OrderRepository(session).add_event(work.order_id, "processed")
    if work.do == "late" and context.attempt == 1:
        await until_released()
    return Worked(order_id=work.order_id)


async def misbehave(context: JobContext[Work], session: AsyncSession) -> Outcome | None:
    """What the payload asks for, as long as `times` says."""
    work = context.data
    if context.attempt > work.times:
        return None
    match work.do:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "block":
            block(work.seconds)
        case "sleep":
            await asyncio.sleep(work.seconds)
        case "wait":
            await wait_for_the_end()
        case "flap":
            raise TransientError("not yet")
        case "pay":
            await PaymentService(session).capture(work.order_id, idempotency_key=context.idempotency_key)
    return None


async def wait_for_the_end() -> None:
    """Wait for the file `release`, or for the cancellation, which is noted."""
    try:
        await until_released()
    except asyncio.CancelledError:
        (FOLDER / "cancelled").touch()
        raise


def block(seconds: float) -> None:
    """Block the event loop, as a careless library does."""
    time.sleep(seconds)

"""How much all workers together may ask of a provider, and what an owner may spend in a day.

A call is booked before it is made, with an estimate, and settled with what it has used. Who comes too early
is told when to come back, and holds no slot meanwhile. The account is in PostgreSQL, as the jobs are: there
is nothing else that could be away, and what a worker has booked when it dies stays booked.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.deadline import within
from app.core.failures import describe
from app.core.job import BusyError
from app.core.llm_settings import LlmSettings, llm_settings
from app.core.outcomes import PermanentError

STEP_TIMEOUT = 10.0
# In no minute more than a twelfth above the quota is asked for.
BURST = timedelta(seconds=5)
# While other calls of the owner are under way, whose cost is not known yet.
SOON = 15.0
LONGEST = 60.0
# What a provider may ask for; a header can be wrong.
LONGEST_SILENCE = 3600.0
KEEP = timedelta(days=40)
logger = logging.getLogger(__name__)

# The quotas as times (GCRA): each call moves them ahead by its share of a minute. Those that are refused are
# told times that lie a typical call apart, so that they do not come back together.
FREE = "greatest(r.requests_at, r.tokens_at) <= statement_timestamp() + CAST(:burst AS interval)"
TURN = """greatest(r.queue_at, statement_timestamp(),
                   greatest(r.requests_at, r.tokens_at) - CAST(:burst AS interval))"""
STEP = "greatest(CAST(:request AS interval), least(CAST(:tokens AS interval), r.typical))"
BOOK = text(
    f"""
    INSERT INTO llm_rate AS r (name, granted, requests_at, tokens_at, queue_at)
    VALUES (:name, true, statement_timestamp() + CAST(:request AS interval),
            statement_timestamp() + CAST(:tokens AS interval), statement_timestamp())
    ON CONFLICT (name) DO UPDATE SET
        granted = {FREE},
        requests_at = CASE WHEN NOT {FREE} THEN r.requests_at
            ELSE greatest(r.requests_at, statement_timestamp()) + CAST(:request AS interval) END,
        tokens_at = CASE WHEN NOT {FREE} THEN r.tokens_at
            ELSE greatest(r.tokens_at, statement_timestamp()) + CAST(:tokens AS interval) END,
        queue_at = CASE WHEN {FREE} THEN r.queue_at ELSE {TURN} + {STEP} END
    RETURNING granted, queue_at - {STEP} - statement_timestamp() AS wait
    """  # noqa: S608  # the parts are ours
)
SETTLE = text(
    """
    UPDATE llm_rate SET tokens_at = tokens_at + CAST(:used AS interval) - CAST(:booked AS interval),
           requests_at = greatest(requests_at, statement_timestamp() + CAST(:silence AS interval)),
           typical = typical * 0.9 + CAST(:used AS interval) * 0.1
    WHERE name = :name
    """
)
HOLD = text(
    """
    INSERT INTO llm_spend AS s (owner, day, held)
    VALUES (:owner, CAST(now() AT TIME ZONE 'UTC' AS date), :cost)
    ON CONFLICT (owner, day) DO UPDATE SET held = s.held + excluded.held
        WHERE s.cost + s.held + excluded.held <= :cap
    RETURNING day, xmax = 0 AS first
    """
)
FULL = text(
    """
    SELECT cost + :cost > :cap FROM llm_spend
    WHERE owner = :owner AND day = CAST(now() AT TIME ZONE 'UTC' AS date)
    """
)
SPEND = text(
    "UPDATE llm_spend SET held = held - :held, cost = cost + :cost WHERE owner = :owner AND day = :day"
)
PRUNE = text("DELETE FROM llm_spend WHERE owner = :owner AND day < now() - CAST(:keep AS interval)")


@dataclass(frozen=True, slots=True)
class Booking:
    """What was booked for a call; `day` is None without a cap."""

    owner: str
    model: str
    tokens: int
    cost: int
    day: date | None


async def book(owner: str, estimate: Mapping[str, Any]) -> Booking | None:
    """Book a call that may use as much as `estimate` says (see `llm_call.spent`); None without any limit.

    Raises BusyError when it is to be made later, PermanentError when it can never be made.
    """
    settings, model = llm_settings(), estimate["model"]
    if settings.llm_daily_spend is None and not limited(settings, model):
        return None
    tokens = estimate["input_tokens"] + estimate["output_tokens"]
    return await within(STEP_TIMEOUT, booked(settings, owner, model, tokens, cost=estimate["cost"]))


async def booked(settings: LlmSettings, owner: str, model: str, tokens: int, *, cost: int | None) -> Booking:
    """A booking in a transaction of its own. The rows are locked in the same order everywhere."""
    refused: BusyError | None = None
    async with get_session() as session:
        day = await hold(session, settings, owner, cost)
        if limited(settings, model):
            row = (await session.execute(BOOK, shares(settings, model, tokens))).one()
            if not row.granted:
                wait = min(LONGEST, max(0.0, row.wait.total_seconds()))
                refused = BusyError("the quota of this minute is used up", wait)
        booking = Booking(owner, model, tokens, cost or 0, day)
        if refused is not None:
            await release(session, booking, 0)
    if refused is not None:  # the transaction is committed: the next one is told another time
        raise refused
    return booking


async def settle(booking: Booking | None, used: Mapping[str, Any], retry_after: float | None = None) -> None:
    """Note what a call has used in place of what was booked. When that fails the estimate stays.

    With `retry_after` the provider has refused the call for so many seconds. It then refuses all that share
    the quota, so nobody gets a booking of it before.
    """
    if booking is None:
        return
    settings, tokens = llm_settings(), used["input_tokens"] + used["output_tokens"]
    silence = retry_after and timedelta(seconds=min(retry_after, LONGEST_SILENCE)) + BURST

    async def note() -> None:
        async with get_session() as session:
            await release(session, booking, used["cost"] or 0)
            if limited(settings, booking.model):
                values = shares(settings, booking.model, tokens)
                before = shares(settings, booking.model, booking.tokens)
                given = {"used": values["tokens"], "booked": before["tokens"], "silence": silence or None}
                await session.execute(SETTLE, {"name": values["name"], **given})

    try:
        await within(STEP_TIMEOUT, note())
    except Exception as error:  # the call was made; its answer must not be lost for that
        logger.warning("what a call has used is not noted, its estimate counts: %s", describe(error))


async def hold(session: AsyncSession, settings: LlmSettings, owner: str, cost: int | None) -> date | None:
    """Hold what a call may cost; the day that it counts for, None without a cap. Raises as `book` does."""
    if settings.llm_daily_spend is None:
        return None
    cap = round(settings.llm_daily_spend * 1_000_000)
    if cost is None or cost > cap:
        reason = "has no price" if cost is None else "may cost more than an owner may spend in a day"
        raise PermanentError(f"the call {reason}")
    values = {"owner": owner, "cost": cost, "cap": cap}
    row = (await session.execute(HOLD, values)).first()
    if row is None:
        full = (await session.execute(FULL, values)).scalar_one_or_none()
        raise BusyError("what may be spent in a day is spent", until_midnight() if full else SOON)
    if row.first:
        await session.execute(PRUNE, {"owner": owner, "keep": KEEP})
    day: date = row.day
    return day


async def release(session: AsyncSession, booking: Booking, cost: int) -> None:
    """Put what a call did cost in place of what it might have."""
    if booking.day is not None:
        values = {"owner": booking.owner, "day": booking.day, "held": booking.cost, "cost": cost}
        await session.execute(SPEND, values)


def limited(settings: LlmSettings, model: str) -> bool:
    """Whether there is a quota for the model."""
    return model in settings.llm_requests_per_minute or model in settings.llm_tokens_per_minute


def shares(settings: LlmSettings, model: str, tokens: int) -> dict[str, Any]:
    """The share of a minute that a call takes of each quota, and whose they are: a provider counts by key."""
    requests, most = settings.llm_requests_per_minute.get(model), settings.llm_tokens_per_minute.get(model)
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
    return {
        "name": f"{model} {hashlib.sha256(key.encode()).hexdigest()[:12]}",
        "request": timedelta(seconds=60 / requests if requests else 0),
        "tokens": timedelta(seconds=60 * tokens / most if most else 0),
        "burst": BURST,
    }


def until_midnight() -> float:
    """Seconds until the next day begins (UTC)."""
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (tomorrow - now).total_seconds() + 1

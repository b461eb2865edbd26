"""What goes into a batch of a provider of language models, and what comes of it for the jobs in it.

A job is in a batch as long as its `runner` says so, which fences: an answer that comes when the job was
cancelled, or is past its deadline, starts nothing. One that has its answer goes on as any job of the table,
whose function finds the answer and calls nobody.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_store, llm_batch_store
from app.core.database import get_session
from app.core.dead_letter_table import storable
from app.core.deadline import within
from app.core.envelope import fields
from app.core.failures import classify
from app.core.job import KINDS, BusyError, JobContext, json_text
from app.core.job_attempt import Attempt
from app.core.job_events import ATTEMPT, Record, write
from app.core.job_store import Settlement
from app.core.job_upkeep import note_ends
from app.core.llm_batch_provider import Result
from app.core.llm_batch_settings import llm_batch_settings
from app.core.llm_batch_store import Batch
from app.core.llm_call import ANSWERED, BROKEN_OFF, STARTED, Gathered, about, spent
from app.core.llm_limit import Booking, hold, release
from app.core.llm_provider import Prompt, Usage
from app.core.llm_settings import llm_settings
from app.core.outcomes import Dead, Down, Outcome, Postpone, Retry

ANSWER_IS_THERE = "the provider's batch has answered"
OTHER_MODEL = "its batch asks another model"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that goes into the batch; `started` is what is said of it."""

    row: Row[Any]
    prompt: Prompt
    started: dict[str, Any]


@dataclass(slots=True)
class Used:
    """What all requests of a batch have used, and how many results there were."""

    results: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0

    def add(self, spent_: dict[str, Any]) -> None:
        """Add a result."""
        self.results += 1
        self.input_tokens += spent_["input_tokens"]
        self.output_tokens += spent_["output_tokens"]
        self.cost = None if self.cost is None or spent_["cost"] is None else self.cost + spent_["cost"]


@dataclass(slots=True)
class Ends:
    """What becomes of jobs of a batch, written in one transaction."""

    batch: Batch
    session: AsyncSession
    records: list[Record] = field(default_factory=list)
    settled: list[tuple[Row[Any], Settlement]] = field(default_factory=list)
    answered: list[uuid.UUID] = field(default_factory=list)
    bookings: list[tuple[Booking, int]] = field(default_factory=list)

    def add(self, row: Row[Any], outcome: Outcome | None, used: dict[str, Any] | None = None) -> None:
        """The `outcome` of a job; None: it has its answer, or needs none. `used` is what its call, if there
        was one, has used, and the answer.
        """
        settlement = Attempt.of(row, time.monotonic()).settled(outcome) if outcome is not None else None
        if settlement is None:
            self.answered.append(row.id)
            settlement = Settlement("queued", ANSWER_IS_THERE, excused=True)
        self.settled.append((row, settlement))
        if started := row._mapping.get("started"):  # noqa: SLF001  # SQLAlchemy's public name for it
            data = {"call": started["call"], **(used or nothing(started["model"]))}
            kind = ANSWERED if outcome is None else BROKEN_OFF
            self.records.append(record(row, 2, kind, data))
            booking = Booking(row.owner, started["model"], 0, started["held"] or 0, day_of(started))
            if booking.day is not None:
                self.bookings.append((booking, data["cost"] or 0))

    async def write(self, *, suspect: bool = False) -> None:
        """Write all of it; jobs that are `suspect` are in smaller batches from now on."""
        if self.records:
            await write(self.session, self.records)
        ends = []
        for row, settlement in self.settled:
            ends.append(await job_store.settle(self.session, row.id, row.attempt, settlement))
            if suspect:
                values = {"id": row.id, "lapsed": row.lapsed + 1}
                await self.session.execute(llm_batch_store.SUSPECT, values)
        await self.session.execute(llm_batch_store.ANSWERED, {"ids": self.answered})
        # In the same order everywhere: two batches may have the same owners.
        for booking, cost in sorted(
            self.bookings, key=lambda settled: (settled[0].owner, str(settled[0].day))
        ):
            await release(self.session, booking, cost)
        await note_ends(self.session, [row for row in ends if row is not None and row.state != "queued"])


async def gather(batch: Batch, rows: Iterable[Row[Any]]) -> list[Asked]:
    """What the jobs in a new batch ask; when there is nothing, it has ended. Others that ask nothing, or not
    now, are out of it again. Raises LostError.
    """
    asked, others, model = list[Asked](), list[tuple[Row[Any], Outcome | None]](), None
    for row in rows:
        found = await ask(row, model)
        if isinstance(found, Asked):
            asked.append(found)
            model = found.prompt.model
        else:
            others.append((row, found))
    async with get_session() as session:
        ends = Ends(batch, session)
        for row, outcome in others:
            ends.add(row, outcome)
        ends.records += [record(one.row, 1, STARTED, one.started) for one in asked]
        if model is None:
            await llm_batch_store.end(session, batch, used_by(Used()), "nothing was asked")
        else:
            await llm_batch_store.post(session, batch, len(asked), model)
        await ends.write()
    return asked


async def ask(row: Row[Any], model: str | None) -> Asked | Outcome | None:
    """What a job asks; or why it is not asked, None if it needs no answer. A batch asks one `model`."""
    kind = KINDS[row.kind]

    async def answered(context: JobContext[Any]) -> Any:
        return None if kind.ask is None else await kind.ask(context)

    try:
        data = kind.payload.model_validate(row.payload)
        context = JobContext(row.id, row.kind, data, row.owner, row.attempt)
        context.gathers = True
        answer = await within(kind.seconds, answered(context))
    except Gathered as gathered:
        if model is not None and gathered.prompt.model != model:
            return Postpone(OTHER_MODEL)
        try:
            return Asked(row, gathered.prompt, await start(row, gathered))
        except Exception as error:  # `classify` judges what the database raises
            return outcome_of(error)
    except ValidationError as error:
        return Dead(f"payload of {kind.name}: {fields(error)}")
    except Exception as error:  # the user's code may raise anything
        return outcome_of(error)
    return answer if isinstance(answer, Retry | Postpone | Down | Dead) else None


async def start(row: Row[Any], gathered: Gathered) -> dict[str, Any]:
    """What is said of a call when it goes into the batch; what it may cost is held against the owner's day.

    Raises as `llm_limit.book` does.
    """
    prompt, settings = gathered.prompt, llm_settings()
    estimate = at_batch_price(spent(prompt, Usage(about(prompt), prompt.max_tokens, stop="limit"), []))
    day = None
    if settings.llm_daily_spend is not None:
        async with get_session() as session:
            day = await hold(session, settings, row.owner, estimate["cost"])
    return {
        "call": gathered.name,
        "model": prompt.model,
        "attempt": row.attempt,
        "input_tokens": about(prompt),
        "share": llm_batch_settings().llm_batch_price,
        "held": estimate["cost"],
        "day": day and day.isoformat(),
    }


async def fan_in(batch: Batch, results: Sequence[Result], used: Used) -> None:
    """Give the jobs their results, and add up what was `used`. Raises LostError."""
    by_job = {uuid.UUID(result.name[32:]): result for result in results}
    async with get_session() as session:
        await llm_batch_store.keep(session, batch)
        ends = Ends(batch, session)
        for row in await llm_batch_store.in_batch(session, batch, by_job):
            result = by_job[row.id]
            outcome = None if result.problem is None else outcome_of(result.problem)
            ends.add(row, outcome, told(batch, result))
        await ends.write()
    for result in by_job.values():
        used.add(told(batch, result))


async def give_back(batch: Batch, outcome: Outcome, used: Used, *, blame: bool = False) -> None:
    """End the batch; `outcome` is that of the jobs that are still in it. If one of them is to `blame`, all
    are suspects, and of several none pays for it. Raises LostError.
    """
    reason = getattr(outcome, "reason", "")
    async with get_session() as session:
        await llm_batch_store.end(session, batch, used_by(used), reason)
        ends, rows = Ends(batch, session), await llm_batch_store.in_batch(session, batch)
        several = blame and max(len(rows), batch.requests) > 1
        for row in rows:
            ends.add(row, Postpone(reason) if several else outcome)
        await ends.write(suspect=blame)


def told(batch: Batch, result: Result) -> dict[str, Any]:
    """The answer, and what it has used. Nothing is paid for where there is none."""
    if result.problem is not None:
        return nothing(batch.model or "")
    text = storable(result.text)
    return {"text": text, **at_batch_price(spent(Prompt(batch.model or "", ()), result.usage, [text]))}


def nothing(model: str) -> dict[str, Any]:
    """What a call has used that was not made."""
    return {"model": model, "input_tokens": 0, "output_tokens": 0, "cost": 0, "exact": True}


def at_batch_price(used: dict[str, Any]) -> dict[str, Any]:
    """The same for less."""
    cost = used["cost"]
    return used | {"cost": None if cost is None else round(cost * llm_batch_settings().llm_batch_price)}


def outcome_of(error: Exception) -> Outcome:
    """What an error means for a job."""
    if isinstance(error, BusyError):
        return Postpone(str(error), error.retry_after or 0.0)
    return classify(error)


def record(row: Row[Any], number: int, kind: str, data: dict[str, Any]) -> Record:
    """An event of a job's attempt."""
    return Record(row.id, row.attempt, row.attempt * ATTEMPT + number, kind, json_text(data))


def used_by(used: Used) -> dict[str, Any]:
    """The columns of a batch."""
    return {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens, "cost": used.cost}


def day_of(started: dict[str, Any]) -> date | None:
    """The day that a call is held against."""
    return date.fromisoformat(started["day"]) if started["day"] else None

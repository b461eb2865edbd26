"""One attempt at one job: the effect and the note that it succeeded are one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import Row

from app.core.database import get_session
from app.core.deadline import Watch, cancellation
from app.core.envelope import fields
from app.core.failures import PERMANENT, chain, classify, describe, http_status
from app.core.gate import database_answers
from app.core.job import KINDS, BusyError, JobContext, JobKind, json_text
from app.core.job_store import BEGIN, FINISH, Settlement
from app.core.outcomes import Dead, Done, Down, Outcome, Postpone, Retry, WorkerError
from app.core.retry import RetryPolicy
from app.core.worker_settings import worker_settings

# Our own limit comes first: it knows whether the job or the database was slow.
IDLE_MARGIN = 5.0
LONGEST_IDLE = 20 * 86_400.0  # PostgreSQL's limit is 24 days
UNKNOWN_PAUSE = 10.0
CANCELLED = "cancelled by request"
LOST = "another attempt has begun"
logger = logging.getLogger(__name__)
Write = Callable[["Attempt"], Awaitable[None]]


async def write_nothing(_: Attempt) -> None:
    """Where events of jobs are not recorded."""


class Undo(WorkerError):
    """Carries an outcome out of the session block, so that the session rolls back."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome


@dataclass(eq=False)
class Attempt:
    """A job that is ours. `ends` is its deadline and `renewed` when its lease began, both of
    `time.monotonic`.
    """

    row: Row[Any]
    ends: float
    renewed: float
    policy: RetryPolicy = field(default_factory=lambda: worker_settings().retry_policy)
    watch: Watch = field(default_factory=Watch)
    job: JobContext[Any] | None = None
    write: Write = write_nothing

    @classmethod
    def of(cls, row: Row[Any], asked: float, write: Write = write_nothing) -> Attempt:
        """The attempt that a claimed row stands for; the claim was made at `asked`. `write` returns when the
        job's events are written.
        """
        return cls(row, time.monotonic() + row.remaining.total_seconds(), asked, write=write)

    @property
    def id(self) -> uuid.UUID:
        """The job's."""
        return self.row.id  # type: ignore[no-any-return]

    @property
    def number(self) -> int:
        """The fencing token."""
        return self.row.attempt  # type: ignore[no-any-return]

    @property
    def progress(self) -> float | None:
        """What the function has reported last."""
        return None if self.job is None else self.job.progress

    @property
    def note(self) -> str | None:
        """The same, for people."""
        return None if self.job is None else self.job.note

    async def flush(self) -> None:
        """Have the job's events written."""
        if self.job is not None:
            await self.write(self)

    def __str__(self) -> str:
        return f"job {self.row.kind} {self.id}, attempt {self.number}"

    # -- the work --------------------------------------------------------------------------------------

    async def decide(self) -> Settlement | None:
        """Make the attempt. None when it succeeded, else what is to become of the job."""
        kind = KINDS.get(self.row.kind)
        if kind is None:  # a newer version of the project may know it
            return self.settled(Postpone(f"no worker knows the kind {self.row.kind}", UNKNOWN_PAUSE))
        try:
            data = kind.payload.model_validate(self.row.payload)
        except ValidationError as error:
            return self.settled(Dead(f"payload of {kind.name}: {fields(error)}"))
        counted = self.number - self.row.excused
        self.job = JobContext(self.id, kind.name, data, self.row.owner, self.number, counted)
        try:
            return self.settled(await self._bounded_run(kind, self.job))
        except Exception as error:  # the user's code may raise anything; `_failed` judges it
            return await self._failed(error)

    async def _bounded_run(self, kind: JobKind[Any], job: JobContext[Any]) -> Outcome:
        self.watch.task = asyncio.current_task()
        now = time.monotonic()
        seconds = max(0.0, min(self.ends - now, kind.seconds))
        self.watch.start(now, seconds)
        try:
            outcome = await self._run(kind, job, seconds)
        except BaseException as error:
            if not self.watch.end():
                raise
            # Cleaning up may have failed too; what matters is where the limit found the job.
            raise TimeoutError(f"stopped after {seconds:g} s") from cancellation(error)
        self.watch.end()
        return outcome

    async def _run(self, kind: JobKind[Any], job: JobContext[Any], seconds: float) -> Outcome:
        if kind.ask is not None:
            job.answer = await kind.ask(job)
            if isinstance(job.answer, Retry | Postpone | Down | Dead):
                return job.answer
            await self.flush()  # whatever happens from here on, it is known what was paid for
        idle = f"{int((min(seconds, LONGEST_IDLE) + IDLE_MARGIN) * 1000)}ms"
        try:
            async with get_session() as session:
                await session.execute(BEGIN, {"name": f"job {self.id} {self.number}", "idle": idle})
                result = await kind.handle(job, session)
                if isinstance(result, Retry | Postpone | Down | Dead):
                    raise Undo(result)
                await self.flush()
                values = {"id": self.id, "attempt": self.number, "result": as_json(result)}
                if (await session.execute(FINISH, values)).first() is None:
                    raise Undo(Postpone(LOST))
                return Done()
        except Undo as undo:
            return undo.outcome

    # -- what becomes of it ----------------------------------------------------------------------------

    async def _failed(self, error: Exception) -> Settlement:
        if self.watch.revoked == CANCELLED:
            return Settlement("cancelled", CANCELLED)
        if self.watch.revoked is not None:
            return Settlement("queued", self.watch.revoked, excused=True)
        if time.monotonic() >= self.ends:
            return Settlement("expired", "not finished by its deadline")
        if busy := next((link for link in chain(error) if isinstance(link, BusyError)), None):
            return self._again(str(busy), busy.retry_after, excused=True)
        outcome = classify(error)
        if isinstance(outcome, Down) and self.watch.overrun(time.monotonic()) and await database_answers():
            outcome = Retry(describe(error))  # it was the statement that took too long
        foreseen = isinstance(error, (WorkerError, *PERMANENT)) or http_status(error) is not None
        if isinstance(outcome, Dead) and not foreseen:
            # Nobody foresaw it: the traceback is of use, and its text is nothing for the job's owner.
            logger.error("%s failed", self, exc_info=error)
            return Settlement("failed", f"unexpected {type(error).__name__}", detail=outcome.reason)
        return self.settled(outcome) or Settlement("queued", LOST, excused=True)

    def called_off(self) -> Settlement:
        """What becomes of the job when the process stops the attempt."""
        if self.watch.overrun(time.monotonic()):
            return self._again("not finished in time", None)
        return Settlement("queued", "handed back", excused=True)

    def settled(self, outcome: Outcome) -> Settlement | None:
        """What an outcome means for the job; None when it has succeeded."""
        match outcome:
            case Done():
                return None
            case Retry(reason, after):
                return self._again(reason, after)
            case Postpone(reason, after):
                return Settlement("queued", reason, after, excused=True)
            case Down(reason):
                return Settlement("queued", reason, self.policy.pause(1), excused=True)
            case Dead(reason):
                return Settlement("failed", reason)

    def _again(self, reason: str, after: float | None, *, excused: bool = False) -> Settlement:
        counted = self.number - self.row.excused
        if counted >= self.row.max_attempts and not excused:
            return Settlement("failed", f"gave up after {counted} attempts: {reason}")
        pause = self.policy.pause(self.row.excused + 1 if excused else counted, after)
        if time.monotonic() + pause >= self.ends:
            return Settlement("failed", f"no time for another attempt before its deadline: {reason}")
        return Settlement("queued", reason, pause, excused)


def as_json(result: BaseModel | Mapping[str, Any] | Done | None) -> str | None:
    """What is stored of a function's result."""
    return None if result is None or isinstance(result, Done) else json_text(result)

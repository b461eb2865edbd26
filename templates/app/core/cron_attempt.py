"""One attempt at one run: the job's effect and the note that it succeeded are one transaction."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text

from app.core.cron_job import CronJob, Tick, Trigger
from app.core.database import get_session
from app.core.deadline import Watch, cancellation
from app.core.failures import classify
from app.core.outcomes import Dead, Done, Outcome, Postpone, Retry, WorkerError

# For this transaction only. The name lets whoever takes over end the session of a frozen runner; without
# anybody to do so, the server ends it when the deadline is well over.
BEGIN = text(
    """
    SELECT set_config('application_name', :name, true),
           set_config('idle_in_transaction_session_timeout', :idle, true)
    """
)
# The last statement before the commit. Until then the row is free for heartbeats, and for others to take it
# over; after it there is nothing to wait for. No row: another attempt has begun, and all is rolled back.
FINISH = text(
    """
    UPDATE cron_run SET state = 'succeeded', finished_at = clock_timestamp(), error = NULL, lease_until = NULL
    WHERE id = :id AND attempt = :attempt AND state = 'running'
      AND set_config('idle_in_transaction_session_timeout', '10s', true) IS NOT NULL
    RETURNING 1
    """
)
# Our own deadline comes first: it knows whether the job or the database was slow.
IDLE_MARGIN = 5.0
LONGEST_IDLE = 20 * 86_400.0  # PostgreSQL's limit is 24 days
logger = logging.getLogger(__name__)


class Undo(WorkerError):
    """Carries an outcome out of the session block, so that the session rolls back."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome


@dataclass
class Attempt:
    """A run that is ours. `ends` is its deadline and `renewed` when its lease began, both of
    `time.monotonic`.
    """

    job: CronJob
    id: int
    number: int
    excused: int
    due_at: datetime
    trigger: Trigger
    ends: float
    renewed: float
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def of(cls, job: CronJob, row: Row[Any], now: float, renewed: float) -> Attempt:
        """The attempt that a row of a claim stands for."""
        ends = now + row.remaining.total_seconds()
        due_at = row.due_at.astimezone(UTC)
        return cls(job, row.id, row.attempt, row.excused, due_at, row.trigger, ends, renewed)

    @property
    def counted(self) -> int:
        """Which attempt it is, of those that count."""
        return self.number - self.excused

    @property
    def tick(self) -> Tick:
        """What the job's function gets."""
        due_at = self.due_at.astimezone(self.job.schedule.zone)
        return Tick(self.job.name, due_at, self.number, self.trigger)

    def __str__(self) -> str:
        return f"cron job {self.job.name} {self.due_at:%FT%TZ}, attempt {self.number}"

    async def decide(self, most: int) -> Outcome:
        """Make the attempt; every failure becomes an outcome. `most` is the number of attempts allowed."""
        if self.counted > most:
            return Dead(f"started {self.counted - 1} times and never finished: it may kill its runner")
        try:
            outcome = await self._bounded_run()
        except Exception as error:
            outcome = self._failed(error)
        if isinstance(outcome, Retry) and self.counted >= most:
            return Dead(f"gave up after {self.counted} attempts: {outcome.reason}")
        return outcome

    async def _bounded_run(self) -> Outcome:
        now = time.monotonic()
        self.watch.start(now, self.ends - now)
        try:
            outcome = await self._run(self.ends - now)
        except BaseException as error:
            if not self.watch.end():
                raise
            # Cleaning up may have failed too; what matters is where the deadline found the job.
            raise TimeoutError("stopped") from cancellation(error)
        self.watch.end()
        return outcome

    async def _run(self, seconds: float) -> Outcome:
        idle = f"{int((min(max(seconds, 0), LONGEST_IDLE) + IDLE_MARGIN) * 1000)}ms"
        try:
            async with get_session() as session:
                await session.execute(BEGIN, {"name": f"cron_run {self.id} {self.number}", "idle": idle})
                outcome = await self.job.run(self.tick, session) or Done()
                if not isinstance(outcome, Done):
                    raise Undo(outcome)
                if (await session.execute(FINISH, {"id": self.id, "attempt": self.number})).first() is None:
                    raise Undo(Postpone("another attempt has begun"))
                return outcome
        except Undo as undo:
            return undo.outcome

    def _failed(self, error: Exception) -> Outcome:
        if self.watch.revoked is not None:
            return Postpone(self.watch.revoked)
        outcome = classify(error)
        if self.watch.overrun(time.monotonic()):
            outcome = Dead(f"not finished by its deadline of {self.job.deadline}")
        if isinstance(outcome, Dead):  # nobody foresaw it, so the traceback is of use
            logger.error("%s failed", self, exc_info=error)
        return outcome

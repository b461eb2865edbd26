"""What a cron job is: a name, a schedule, policies, and a function that calls a service."""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron import Schedule
from app.core.outcomes import Outcome

Overlap = Literal["skip", "wait"]
CatchUp = Literal["none", "last", "all"]
Trigger = Literal["schedule", "catch-up", "manual"]
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tick:
    """One run of a job as its function sees it.

    `due_at` is in the zone of the job's schedule: `tick.due_at.date()` is the local date. It is the same on
    each attempt, however late, so what the run is about should come from it and not from the clock.
    """

    job: str
    due_at: datetime
    attempt: int = 1
    trigger: Trigger = "schedule"

    @property
    def idempotency_key(self) -> str:
        """The key for calls to the outside: the same on each attempt, different for each tick.

        Append a suffix when one run makes several calls.
        """
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"cron {self.job} {self.due_at.timestamp():.6f}"))


Run = Callable[[Tick, AsyncSession], Awaitable[Outcome | None]]


@dataclass(frozen=True)
class CronJob:
    """A named job. Its name is its identity in the database: a renamed job is a new one.

    overlap: what becomes of a tick that is due while an earlier run still goes on. `skip` notes it as
        skipped, `wait` runs it afterwards.
    catch_up: what becomes of ticks that were missed because no scheduler was there: `none` drops them,
        `last` runs the newest unless a later one is due anyway, `all` runs every one.
    within: how old a missed tick may be to be made up.
    deadline: how long a tick has from its first start, all its attempts and pauses together.
    jitter: the start is put off by a random time up to this; the due time stays.
    attempts: starts of one tick, crashed ones included; None is the setting WORKER_MAX_DELIVERIES.

    Raises ValueError, one line that names the job, for what makes no sense.
    """

    name: str
    schedule: Schedule
    run: Run
    overlap: Overlap = "skip"
    catch_up: CatchUp = "last"
    within: timedelta = DAY
    deadline: timedelta = timedelta(hours=1)
    jitter: timedelta = timedelta()
    attempts: int | None = None

    def __post_init__(self) -> None:
        if problems := "; ".join(self._problems()):
            raise ValueError(f"cron job {self.name!r}: {problems}")

    def _problems(self) -> Iterator[str]:
        if not (isinstance(self.name, str) and NAME.fullmatch(self.name)):
            yield "name: 1 to 100 letters, digits, '_', '-' or '.' are needed"
        if not callable(getattr(self.schedule, "after", None)):
            yield f"schedule={self.schedule!r}: Cron(expression, timezone), Every(…) or Once(…) is needed"
        elif len(str(self.schedule)) > 200:
            yield "schedule: its text may have 200 characters; several jobs may share one function"
        if not takes_tick_and_session(self.run):
            yield "run: an `async def` function of (tick, session) is needed"
        for field, allowed in (("overlap", get_args(Overlap)), ("catch_up", get_args(CatchUp))):
            if getattr(self, field) not in allowed:
                yield f"{field}={getattr(self, field)!r}: {' or '.join(map(repr, allowed))} is needed"
        for field, least in (("within", SECOND), ("deadline", SECOND), ("jitter", timedelta())):
            value = getattr(self, field)
            if not (isinstance(value, timedelta) and least <= value <= 400 * DAY):
                yield f"{field}={value!r}: a timedelta from {least.total_seconds():g} s to 400 days is needed"
        if self.attempts is not None and not (isinstance(self.attempts, int) and 1 <= self.attempts <= 100):
            yield f"attempts={self.attempts!r}: 1 to 100 are allowed"

    @property
    def start_within(self) -> timedelta:
        """How long a tick that is planned may wait for its first start before it is given up."""
        made_up = self.within if self.catch_up != "none" else timedelta()
        return max(self.deadline, made_up) + self.jitter


def takes_tick_and_session(run: Any) -> bool:
    """Whether `run` can be called as a job's function."""
    try:
        inspect.signature(run).bind(None, None)
    except (TypeError, ValueError):
        return False
    return inspect.iscoroutinefunction(run)

"""Which ticks of a job become runs: a function of the clock and of what was planned before, and no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, takewhile

from app.core.cron import Schedule
from app.core.cron_job import CronJob, Trigger

# A long outage of a frequent job is worked off in portions, so that the event loop is not held up.
PORTION = 1000
# The database's clock was ahead and has been set back: waiting for the planned time could take days.
AHEAD = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class PlannedTick:
    """A tick that is to run."""

    due_at: datetime
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Missed:
    """Ticks that are not made up: the first of them, and how many up to `until`."""

    first: datetime
    count: int
    until: datetime

    def __str__(self) -> str:
        if self.count == 1:
            return "missed: no scheduler was there in time"
        more = "at least " if self.count == PORTION else ""
        return f"missed: no scheduler was there in time; {more}{self.count} ticks up to {self.until:%FT%TZ}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a job's ticks up to `planned_until`; `next_due` is when to plan again."""

    planned_until: datetime
    next_due: datetime | None
    ticks: list[PlannedTick] = field(default_factory=list)
    missed: Missed | None = None


def plan(job: CronJob, since: datetime, now: datetime, grace: timedelta) -> Plan:
    """Decide on the ticks after `since` up to `now`. One that is at most `grace` late is in time."""
    if since > now + AHEAD:
        since = now
    in_time_from = max(since, now - grace)
    oldest = in_time_from
    if job.catch_up == "all":
        oldest = max(since, min(in_time_from, now - job.within))
    due, next_due = due_and_next(job.schedule, oldest, now)
    ticks = [PlannedTick(moment, "schedule" if moment > in_time_from else "catch-up") for moment in due]
    if not ticks and job.catch_up == "last":
        newest = last_due(job.schedule, max(since, now - job.within), in_time_from)
        ticks = [PlannedTick(newest, "catch-up")] if newest else []
        oldest = newest or oldest
    more = next_due is not None and next_due <= now
    return Plan(
        planned_until=due[-1] if more else max(since, now),
        next_due=next_due,
        ticks=ticks,
        missed=missed_ticks(job.schedule, since, oldest, {tick.due_at for tick in ticks}),
    )


def due_and_next(
    schedule: Schedule, since: datetime, now: datetime
) -> tuple[list[datetime], datetime | None]:
    """The first ticks after `since` up to `now`, as many as make a portion, and the one that follows them."""
    due: list[datetime] = []
    for moment in schedule.after(since):
        if moment > now or len(due) == PORTION:
            return due, moment
        due.append(moment)
    return due, None


def last_due(schedule: Schedule, since: datetime, until: datetime) -> datetime | None:
    """The last tick after `since` up to `until`, found by looking back in steps that double."""
    back = timedelta(minutes=1)
    while since < until:
        start = max(since, until - back)
        found = deque(takewhile(lambda moment: moment <= until, schedule.after(start)), maxlen=1)
        if found or start == since:
            return found[0] if found else None
        back *= 2
    return None


def missed_ticks(
    schedule: Schedule, since: datetime, until: datetime, made_up: Collection[datetime]
) -> Missed | None:
    """The ticks after `since` up to `until` that are not made up; None when there are none."""
    if since >= until:
        return None
    ticks = takewhile(lambda moment: moment <= until, schedule.after(since))
    missed = [moment for moment in islice(ticks, PORTION) if moment not in made_up]
    return Missed(missed[0], len(missed), until) if missed else None

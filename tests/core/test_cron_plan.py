"""What becomes of due ticks, under a clock that the test sets: policies, outages, both nights, jumps."""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron import Cron, Schedule
from app.core.cron_job import CatchUp, CronJob, Tick
from app.core.cron_plan import PORTION, plan
from app.core.interval import Every, Once
from support.cron_oracle import utc

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
GRACE = MINUTE
START = utc("2026-06-01T12:00:00")
FIVE_MINUTES = Every(5 * MINUTE)
NIGHTLY = Cron("30 2 * * *", "Europe/Berlin")


async def nothing(tick: Tick, session: AsyncSession) -> None:
    """A job that does nothing."""


def job_of(schedule: Schedule, catch_up: CatchUp = "last", within: timedelta = DAY) -> CronJob:
    return CronJob("job", schedule, nothing, catch_up=catch_up, within=within)


class Planner:
    """One that is woken at moments of the test's choice, and keeps what it has planned."""

    def __init__(self, job: CronJob, since: datetime) -> None:
        self.job, self.since = job, since
        self.due: list[datetime] = []
        self.made_up: list[datetime] = []
        self.missed: list[Any] = []

    def wake(self, moments: Iterable[datetime]) -> "Planner":
        for now in moments:
            while True:
                found = plan(self.job, self.since, now, GRACE)
                self.since = found.planned_until
                self.due += [tick.due_at for tick in found.ticks]
                self.made_up += [tick.due_at for tick in found.ticks if tick.trigger == "catch-up"]
                self.missed += [found.missed] if found.missed else []
                if found.next_due is None or found.next_due > now:
                    break
        return self


def every(step: timedelta, start: datetime, end: datetime) -> Iterable[datetime]:
    now = start
    while now <= end:
        yield now
        now += step


def due_between(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda moment: moment <= end, schedule.after(start)))


@settings(deadline=None)
@given(
    gaps=st.lists(st.floats(0.001, 7200), min_size=1, max_size=30),
    schedule=st.sampled_from([FIVE_MINUTES, Cron("*/7 * * * *", "UTC"), Cron("0,30 * * * *", "UTC")]),
)
def test_all_ticks_are_planned_once_however_the_planner_is_woken(
    gaps: list[float], schedule: Schedule
) -> None:
    moments = [START]
    for gap in gaps:
        moments.append(moments[-1] + timedelta(seconds=gap))
    planner = Planner(job_of(schedule, "all", within=100 * DAY), START).wake(moments)
    assert planner.due == due_between(schedule, START, moments[-1])
    assert planner.missed == []


@settings(deadline=None)
@given(jumps=st.lists(st.floats(-50, 300), min_size=1, max_size=60))
@example(jumps=[-11.0, -50.0, 1.0])
def test_a_clock_that_jumps_loses_nothing(jumps: list[float]) -> None:
    # The unique row of a tick keeps one that is planned again from running again
    schedule = Every(10 * SECOND)
    now, moments = START, [START]
    for jump in jumps:
        now += timedelta(seconds=jump)
        moments.append(now)
    planner = Planner(job_of(schedule, "all", within=100 * DAY), START).wake(moments)
    due, expected = set(planner.due), set(due_between(schedule, START, max(moments)))
    assert due >= expected
    # What else is due, the clock showed only because it was set back to before the start
    assert due - expected <= set(due_between(schedule, min(moments), START))


def test_a_clock_that_was_far_ahead_does_not_silence_a_job() -> None:
    # Given a database whose clock was three days ahead, and has been set back
    planner = Planner(job_of(FIVE_MINUTES), START).wake([START + 3 * DAY])
    planner.due.clear()
    planner.wake(every(SECOND, START + MINUTE, START + 11 * MINUTE))
    assert planner.due == [START + 5 * MINUTE, START + 10 * MINUTE]


@pytest.mark.parametrize(
    ("night", "due"),
    [("2026-03-28T20:00", "2026-03-29T01:00"), ("2026-10-24T20:00", "2026-10-25T00:30")],
    ids=["forward", "back"],
)
@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_nightly_job_runs_once_in_both_nights(night: str, due: str, catch_up: CatchUp) -> None:
    start = utc(night)
    planner = Planner(job_of(NIGHTLY, catch_up), start).wake(every(10 * SECOND, start, start + 12 * HOUR))
    assert planner.due == [utc(due)]


@pytest.mark.parametrize("night", ["2026-03-28T20:00", "2026-10-24T20:00"])
def test_a_nightly_job_is_made_up_once_after_both_nights(night: str) -> None:
    # Given a scheduler that was down from the evening to the morning
    start = utc(night)
    planner = Planner(job_of(NIGHTLY), start).wake([start + 12 * HOUR])
    assert planner.due == planner.made_up == due_between(NIGHTLY, start, start + 12 * HOUR)
    assert len(planner.due) == 1


def test_an_hourly_job_runs_every_hour_in_both_nights() -> None:
    hourly = Cron("30 * * * *", "Europe/Berlin")
    for night in ("2026-03-28T20:00", "2026-10-24T20:00"):
        start = utc(night)
        planner = Planner(job_of(hourly), start).wake(every(10 * SECOND, start, start + 12 * HOUR))
        assert planner.due == [start + 30 * MINUTE + hours * HOUR for hours in range(12)]


@pytest.mark.parametrize(
    ("catch_up", "within", "down", "made_up", "missed"),
    [
        ("none", DAY, 11 * MINUTE, [], 2),
        ("last", DAY, 11 * MINUTE, [10], 1),
        ("all", DAY, 11 * MINUTE, [5, 10], 0),
        ("all", 7 * MINUTE, 11 * MINUTE, [5, 10], 0),
        ("all", 5 * MINUTE, 11 * MINUTE, [10], 1),
        ("last", 1 * MINUTE, 11 * MINUTE + 30 * SECOND, [], 2),
        ("last", DAY, 3 * DAY + 2 * MINUTE, [3 * 24 * 60], 863),
        ("none", DAY, 3 * DAY + 2 * MINUTE, [], 864),
        ("all", HOUR, 3 * DAY + 2 * MINUTE, list(range(71 * 60 + 5, 72 * 60 + 1, 5)), 852),
    ],
)
def test_down_for_minutes_and_for_days(
    catch_up: CatchUp, within: timedelta, down: timedelta, made_up: list[int], missed: int
) -> None:
    planner = Planner(job_of(FIVE_MINUTES, catch_up, within), START).wake([START + down])
    assert planner.due == planner.made_up == [START + minutes * MINUTE for minutes in made_up]
    # What is not made up does not go in silence
    assert sum(stretch.count for stretch in planner.missed) == missed
    if missed:
        assert [stretch.first for stretch in planner.missed] == [START + 5 * MINUTE]


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_tick_found_within_the_grace_is_in_time(catch_up: CatchUp) -> None:
    planner = Planner(job_of(FIVE_MINUTES, catch_up), START).wake([START + 5 * MINUTE + 59 * SECOND])
    assert (planner.due, planner.made_up) == ([START + 5 * MINUTE], [])


def test_a_missed_tick_is_not_made_up_when_a_later_one_is_in_time() -> None:
    planner = Planner(job_of(FIVE_MINUTES), START).wake([START + 10 * MINUTE + SECOND])
    assert planner.due == [START + 10 * MINUTE]
    assert str(planner.missed[0]) == "missed: no scheduler was there in time"


def test_a_long_outage_is_worked_off_in_portions() -> None:
    seconds = job_of(Every(SECOND), "all", within=2 * HOUR)
    now = START + HOUR
    first = plan(seconds, START, now, GRACE)
    assert len(first.ticks) == PORTION
    assert first.planned_until == START + PORTION * SECOND
    planner = Planner(seconds, START).wake([now])
    assert planner.due == due_between(seconds.schedule, START, now)


def test_a_year_of_seconds_is_looked_through_in_no_time() -> None:
    policies: tuple[CatchUp, ...] = ("none", "last")
    for catch_up in policies:
        started = time.perf_counter()
        planner = Planner(job_of(Every(SECOND), catch_up, 400 * DAY), START).wake([START + 365 * DAY])
        assert time.perf_counter() - started < 1
        assert "at least 1000 ticks" in str(planner.missed[0])


def test_what_comes_once_comes_once() -> None:
    once = Once(START + HOUR)
    planner = Planner(job_of(once), START).wake(every(MINUTE, START, START + 3 * HOUR))
    assert planner.due == [START + HOUR]
    assert plan(planner.job, planner.since, START + 4 * HOUR, GRACE).next_due is None


def test_the_next_due_time_is_told() -> None:
    found = plan(job_of(FIVE_MINUTES), START, START + MINUTE, GRACE)
    assert (found.planned_until, found.next_due) == (START + MINUTE, START + 5 * MINUTE)

"""Cron expressions against a walk through the time zone database, over the days on which clocks change."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.cron import Cron
from support.cron_oracle import Clock, Wanted, utc

MINUTE, SECOND, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("minutes", "seconds", "hours", "days"))

# Zone, and the beginning of some UTC day near the change.
CHANGES = {
    "Berlin, spring": ("Europe/Berlin", "2026-03-29"),
    "Berlin, autumn": ("Europe/Berlin", "2026-10-25"),
    "New York, spring": ("America/New_York", "2026-03-08"),
    "New York, autumn": ("America/New_York", "2026-11-01"),
    "Lord Howe, half an hour, spring": ("Australia/Lord_Howe", "2026-10-03"),
    "Lord Howe, half an hour, autumn": ("Australia/Lord_Howe", "2026-04-04"),
    "Chatham, 12:45 ahead, spring": ("Pacific/Chatham", "2026-09-26"),
    "Chatham, 12:45 ahead, autumn": ("Pacific/Chatham", "2026-04-04"),
    "Troll, two hours, spring": ("Antarctica/Troll", "2026-03-29"),
    "Troll, two hours, autumn": ("Antarctica/Troll", "2026-10-25"),
    "Santiago, at midnight, spring": ("America/Santiago", "2026-09-06"),
    "Santiago, at midnight, autumn": ("America/Santiago", "2026-04-05"),
    "Apia, no 30 December": ("Pacific/Apia", "2011-12-30"),
    "Kwajalein, no 21 August": ("Pacific/Kwajalein", "1993-08-21"),
    "St John's, back over midnight": ("America/St_Johns", "2007-11-04"),
    "St John's, forward at a minute past midnight": ("America/St_Johns", "2007-03-11"),
    "Nuuk, forward into midnight": ("America/Nuuk", "2026-03-29"),
    "UTC": ("UTC", "2026-03-29"),
}


def due(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """What the templates say is due after `start` up to `end`."""
    return list(takewhile(lambda moment: moment <= end, Cron(expression, zone).after(start)))


@cache
def clock_of(zone: str, start: datetime, end: datetime, step: timedelta) -> Clock:
    return Clock(zone, start, end, step)


def within(moments: Iterable[datetime], start: datetime, end: datetime) -> list[datetime]:
    return [moment for moment in moments if start < moment <= end]


numbers_of_minutes = st.sets(st.integers(0, 59), min_size=1, max_size=4)
numbers_of_hours = st.sets(st.integers(0, 23), min_size=1, max_size=4) | st.just(set(range(24)))


def text_of(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


@st.composite
def days(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Text of the day, month and weekday fields, and their numbers."""
    chosen = {
        "days": draw(st.none() | st.sets(st.integers(1, 31), min_size=1, max_size=12)),
        "months": draw(st.none() | st.sets(st.integers(1, 12), min_size=6, max_size=12)),
        "weekdays": draw(st.none() | st.sets(st.integers(0, 6), min_size=1, max_size=7)),
    }
    texts = ["*" if numbers is None else text_of(numbers) for numbers in chosen.values()]
    return " ".join(texts), chosen


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=25, deadline=None)
@given(hours=numbers_of_hours, minutes=numbers_of_minutes, rest=days())
def test_fixed_times_run_once_a_date(
    change: str, hours: set[int], minutes: set[int], rest: tuple[str, dict[str, Any]]
) -> None:
    zone, day = CHANGES[change]
    start, end = utc(day) - 2 * DAY, utc(day) + 2 * DAY
    clock = clock_of(zone, start - 3 * DAY, end + DAY, MINUTE)
    text, numbers = rest
    expected = clock.once_a_date(Wanted(hours, minutes, **numbers))
    assert due(f"{text_of(minutes)} {text_of(hours)} {text}", zone, start, end) == within(
        expected, start, end
    )


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=15, deadline=None)
@given(step=st.integers(1, 59), hours=numbers_of_hours, rest=days())
def test_stars_follow_elapsed_time(
    change: str, step: int, hours: set[int], rest: tuple[str, dict[str, Any]]
) -> None:
    zone, day = CHANGES[change]
    start, end = utc(day) - DAY, utc(day) + 2 * DAY
    clock = clock_of(zone, start, end, MINUTE)
    text, numbers = rest
    by_minute = clock.every_match(Wanted(hours, range(0, 60, step), **numbers))
    assert due(f"*/{step} {text_of(hours)} {text}", zone, start, end) == within(by_minute, start, end)
    by_hour = clock.every_match(Wanted(range(0, 24, min(step, 23)), {step}, **numbers))
    assert due(f"{step} */{min(step, 23)} {text}", zone, start, end) == within(by_hour, start, end)


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=5, deadline=None)
@given(
    seconds=st.sets(st.integers(0, 59), min_size=1, max_size=3), minutes=numbers_of_minutes, data=st.data()
)
def test_seconds(change: str, seconds: set[int], minutes: set[int], data: st.DataObject) -> None:
    zone, day = CHANGES[change]
    # Three hours of seconds, for elapsed time, anywhere in the day.
    start = utc(day) + data.draw(st.integers(0, 24)) * HOUR
    end = start + 3 * HOUR
    clock = clock_of(zone, start, end, SECOND)
    expected = clock.every_match(Wanted(range(24), minutes, seconds))
    text = f"{text_of(seconds)} {text_of(minutes)} * * * *"
    assert due(text, zone, start, end) == within(expected, start, end)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(sorted(available_timezones())),
    day=st.integers(0, 365 * 47),
    hours=numbers_of_hours,
    minutes=numbers_of_minutes,
)
def test_every_zone_on_any_day(zone: str, day: int, hours: set[int], minutes: set[int]) -> None:
    start = utc("1990-01-01") + day * DAY
    # Towards a change when there is one soon: most days have none.
    zone_ = ZoneInfo(zone)
    offsets = [((start + n * DAY).astimezone(zone_).utcoffset(), n) for n in range(200)]
    change = next((n for (a, n), (b, _) in pairwise(offsets) if a != b), 0)
    start += (change - 1) * DAY
    end = start + 4 * DAY
    clock = Clock(zone, start - 2 * DAY, end + DAY, MINUTE)
    fixed = clock.once_a_date(Wanted(hours, minutes))
    assert due(f"{text_of(minutes)} {text_of(hours)} * * *", zone, start, end) == within(fixed, start, end)
    elapsed = clock.every_match(Wanted(hours, range(0, 60, 7)))
    assert due(f"*/7 {text_of(hours)} * * *", zone, start, end) == within(elapsed, start, end)


@settings(max_examples=50, deadline=None)
@given(change=st.sampled_from(sorted(CHANGES)), minutes=numbers_of_minutes, data=st.data())
def test_it_does_not_matter_where_one_starts_to_ask(
    change: str, minutes: set[int], data: st.DataObject
) -> None:
    zone, day = CHANGES[change]
    expression = data.draw(st.sampled_from((f"{text_of(minutes)} 0,2,23 * * *", "*/10 * * * *")))
    start, end = utc(day) - DAY, utc(day) + 2 * DAY
    everything = due(expression, zone, start, end)
    asked = start + timedelta(seconds=data.draw(st.floats(0, 3 * 86400)))
    assert due(expression, zone, asked, end) == within(everything, asked, end)


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        # 0 and 7 are Sunday: 29 March 2026 is one
        ("0 12 * * 0", "UTC", "2026-03-26", ["2026-03-29T12:00"]),
        ("0 12 * * 7", "UTC", "2026-03-26", ["2026-03-29T12:00"]),
        ("0 12 * * sun", "UTC", "2026-03-26", ["2026-03-29T12:00"]),
        ("0 12 * * mon-fri", "UTC", "2026-03-27T13:00", ["2026-03-30T12:00", "2026-03-31T12:00"]),
        ("0 12 * * 5-7", "UTC", "2026-03-26T13:00", ["2026-03-27T12:00", "2026-03-28T12:00"]),
        # both days restricted: either one
        ("0 0 13 * fri", "UTC", "2026-01-01", ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00"]),
        # a step of a star is a star: both
        ("0 0 */2 * mon", "UTC", "2026-01-01", ["2026-01-05T00:00", "2026-01-19T00:00"]),
        ("15/20 8 * jan *", "UTC", "2026-01-01", ["2026-01-01T08:15", "2026-01-01T08:35"]),
        ("0 0 29 2 *", "UTC", "2097-01-01", ["2104-02-29T00:00"]),
        ("*/15 30 2 * * *", "UTC", "2026-01-01T02:30:20", ["2026-01-01T02:30:30", "2026-01-01T02:30:45"]),
        ("@daily", "Europe/Berlin", "2026-06-01", ["2026-06-01T22:00"]),
        ("@hourly", "Asia/Kolkata", "2026-06-01", ["2026-06-01T00:30"]),
        # the two nights, in two lines of the documents
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("0,30 2-3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-29T01:30"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-30T00:00", "2026-03-30T00:30"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:00", ["2026-10-25T00:30", "2026-10-25T01:30"]),
    ],
)
def test_examples(expression: str, zone: str, start: str, expected: list[str]) -> None:
    found = Cron(expression, zone).after(utc(start))
    assert [next(found) for _ in expected] == [utc(text) for text in expected]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "five fields are needed"),
        ("* * * *", "five fields are needed"),
        ("@reboot", "one of @hourly, @daily"),
        ("61 * * * *", "minute '61': 0 to 59, as *, a-b, a,b or */n"),
        ("* 24 * * *", "hour '24': 0 to 23"),
        ("* * 0 * *", "day of the month '0': 1 to 31"),
        ("* * * 13 *", "month '13': 1 to 12 or JAN, FEB"),
        ("* * * * 8", "day of the week '8': 0 to 7 or SUN, MON"),
        ("* * * * foo", "day of the week 'foo'"),
        ("*/0 * * * *", "minute '*/0'"),
        ("5-1 * * * *", "minute '5-1'"),
        ("1,,2 * * * *", "minute ''"),
        ("*-5 * * * *", "minute '*-5'"),
        ("-1 * * * *", "minute '-1'"),
        ("99999999999 * * * *", "minute '99999999999'"),
        ("L * * * *", "minute 'L'"),
        ("0 3 30 2 *", "no such day ever comes"),
    ],
)
def test_expressions_that_make_no_sense_say_why(expression: str, told: str) -> None:
    with pytest.raises(ValueError, match="cron expression") as refused:
        Cron(expression, "UTC")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("zone", ["", "Berlin", "Europe/", "../etc/passwd", "/etc/passwd", "CEST+1"])
def test_zones_that_there_are_not(zone: str) -> None:
    with pytest.raises(ValueError, match="a name such as Europe/Berlin"):
        Cron("0 3 * * *", zone)


def test_the_text_tells_schedules_apart() -> None:
    assert str(Cron("30  2 * * *", "Europe/Berlin")) == "30 2 * * * Europe/Berlin"


# -- why APScheduler's trigger is not used ---------------------------------------------------------------


def fires(expression: str, zone: str, start: datetime) -> Iterator[datetime]:
    """What APScheduler's own trigger says, as its scheduler asks it."""
    trigger = CronTrigger.from_crontab(expression, timezone=ZoneInfo(zone))
    before, now = None, start
    while True:
        before = trigger.get_next_fire_time(before, now)
        assert before is not None
        yield before.astimezone(UTC)
        now = before


def test_apscheduler_runs_a_nightly_job_twice_in_autumn() -> None:
    start = utc("2026-10-24T12:00").astimezone(ZoneInfo("Europe/Berlin"))
    theirs = fires("30 2 * * *", "Europe/Berlin", start)
    assert [next(theirs), next(theirs)] == [utc("2026-10-25T00:30"), utc("2026-10-25T01:30")]


def test_apscheduler_runs_twice_at_one_instant_in_spring() -> None:
    start = utc("2026-03-28T12:00").astimezone(ZoneInfo("Europe/Berlin"))
    theirs = fires("0,30 2-3 * * *", "Europe/Berlin", start)
    instants = [next(theirs) for _ in range(4)]
    assert len(set(instants)) < len(instants)


def test_apscheduler_counts_weekdays_from_monday() -> None:
    theirs = next(fires("0 12 * * 0", "UTC", utc("2026-03-26")))
    assert theirs == utc("2026-03-30T12:00")
    assert theirs.strftime("%A") == "Monday"

"""Intervals follow elapsed time and are not pushed back by restarts."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.interval import Every, Once
from support.cron_oracle import utc

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
intervals = st.timedeltas(timedelta(seconds=1), timedelta(days=400))


@given(interval=intervals, anchor=moments, moment=moments)
def test_due_times_are_multiples_since_the_anchor(
    interval: timedelta, anchor: datetime, moment: datetime
) -> None:
    first, second = islice(Every(interval, anchor).after(moment), 2)
    assert (first - anchor) % interval == timedelta()
    assert timedelta() < first - moment <= interval
    assert second - first == interval


@given(interval=intervals, moment=moments)
def test_a_restart_does_not_push_it_back(interval: timedelta, moment: datetime) -> None:
    due = next(Every(interval).after(moment))
    just_before = max(moment, due - timedelta(milliseconds=1))
    assert next(Every(interval).after(just_before)) == due
    assert next(Every(interval).after(due)) == due + interval


def test_clocks_that_change_are_no_business_of_an_interval() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    daily = Every(timedelta(days=1), datetime(2026, 10, 24, 2, 30, tzinfo=berlin))
    first, second = islice(daily.after(utc("2026-10-24T01:00")), 2)
    assert second - first == timedelta(hours=24)
    assert daily.zone is berlin


def test_once_is_once() -> None:
    once = Once(datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")))
    assert list(once.after(utc("2026-10-25T00:29"))) == [utc("2026-10-25T00:30")]
    assert list(once.after(utc("2026-10-25T00:30"))) == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Every(timedelta(milliseconds=999)), "at least a second"),
        (lambda: Every(timedelta(minutes=-5)), "at least a second"),
        (lambda: Every(timedelta(minutes=5), datetime(2026, 1, 1)), "a time zone is needed"),  # noqa: DTZ001
        (lambda: Once(datetime(2026, 1, 1)), "a time zone is needed"),  # noqa: DTZ001
    ],
)
def test_what_makes_no_sense_is_refused(make: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()  # type: ignore[operator]


def test_texts_tell_schedules_apart() -> None:
    assert str(Every(timedelta(minutes=5))) == "every 0:05:00"
    assert "from 2026-01-01" in str(Every(timedelta(minutes=5), utc("2026-01-01")))
    assert str(Once(utc("2026-01-01"))) == "once 2026-01-01T00:00:00+00:00"

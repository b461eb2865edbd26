"""When a job is due: cron expressions over local time, right on the days when clocks change.

An expression has five fields (minute, hour, day of the month, month, day of the week; 0 and 7 are Sunday) or
six, with seconds in front. As in cron, when both days are restricted either one makes a match.

Clocks forward: a skipped time runs at the moment after the gap. Clocks back: it runs the first time only.
Minutes or hours that begin with `*` follow elapsed time instead: they skip the gap and run in both passes.

APScheduler 3.11's CronTrigger is not used: it fires a daily 02:30 twice in the autumn night and twice at one
instant for `0,30 2-3 * * *` in spring, and counts weekdays from Monday. Nor is its scheduler: it submits a
run and forgets it, so a run dies with its process, and a second scheduler runs everything twice.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cached_property
from typing import Protocol
from zoneinfo import ZoneInfo

from app.core import cron_fields
from app.core.local_time import as_utc, exists, first_moment, offset_at, offsets_between, shown, zone_of

DAY = timedelta(days=1)
# 29 February on a certain weekday comes every 28 years, and once every 40 over a year like 2100.
FARTHEST = 41 * 366 * DAY
LAST_YEAR = 9990  # Python's calendar ends soon after
ANCHOR = datetime(2000, 1, 1, tzinfo=UTC)


class Schedule(Protocol):
    """When a job is due. Its text tells it from other schedules, in people's eyes and in the database."""

    @property
    def zone(self) -> tzinfo:
        """The zone in which people think of its times."""

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The due times after `moment`, in order, each once, in UTC. They may end."""
        ...


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone. Raises ValueError when either makes no sense."""

    expression: str
    timezone: str

    def __post_init__(self) -> None:
        if next(self.after(ANCHOR), None) is None:
            raise ValueError(f"cron expression {self.expression!r}: no such day ever comes")

    def __str__(self) -> str:
        return f"{' '.join(self.expression.split())} {self.timezone}"

    @cached_property
    def zone(self) -> ZoneInfo:
        """See Schedule."""
        return zone_of(self.timezone)

    @cached_property
    def follows_elapsed_time(self) -> bool:
        """Whether it runs every so often rather than at times of the day."""
        return self._texts[1].startswith("*") or self._texts[2].startswith("*")

    def after(self, moment: datetime) -> Iterator[datetime]:
        """See Schedule."""
        between = self._elapsed if self.follows_elapsed_time else self._fixed
        start = done = moment.astimezone(UTC)
        while start - done < FARTHEST and start.year < LAST_YEAR:
            if any(self._matches(start.date() + days * DAY) for days in (-1, 0, 1, 2)):
                for due in between(start, start + DAY):
                    if due > done:
                        yield due
                        done = due
            start += DAY

    def _fixed(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The first moment of each local time that the clocks pass, or skip, from `start` to `end`, in order.

        In the second pass of a fold they are behind what they have shown; `after` drops what comes twice.
        """
        dates: dict[date, bool] = {}
        for local in self._times(shown(start, self.zone), shown(end, self.zone)):
            day = local.date()
            if day not in dates:
                dates[day] = exists(day, self.zone)
            if dates[day]:
                yield first_moment(local, self.zone)

    def _elapsed(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Every moment after `start` up to `end` at which the clocks show a time that matches, in order."""
        offsets = offsets_between(start, end, self.zone)
        return heapq.merge(*(self._under(offset, start, end) for offset in offsets))

    def _under(self, offset: timedelta, start: datetime, end: datetime) -> Iterator[datetime]:
        """Those while `offset` is in effect."""
        for local in self._times((start + offset).replace(tzinfo=None), (end + offset).replace(tzinfo=None)):
            due = as_utc(local, offset)
            if offset_at(due, self.zone) == offset:
                yield due

    # -- what the fields say -----------------------------------------------------------------------------

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        try:
            return cron_fields.split(self.expression)
        except ValueError as error:
            raise ValueError(f"cron expression {self.expression!r}: {error}") from None

    @cached_property
    def _fields(self) -> tuple[list[int], ...]:
        try:
            return tuple(sorted(numbers) for numbers in cron_fields.parse(self._texts))
        except ValueError as error:
            raise ValueError(f"cron expression {self.expression!r}: {error}") from None

    def _matches(self, day: date) -> bool:
        days, months, weekdays = self._fields[3:]
        if day.month not in months:
            return False
        by_day = day.day in days
        by_weekday = day.isoweekday() % 7 in weekdays or (day.isoweekday() == 7 and 7 in weekdays)
        if self._texts[3].startswith("*") or self._texts[5].startswith("*"):
            return by_day and by_weekday
        return by_day or by_weekday

    def _times(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The local times that match, later than `after` and not later than `until`."""
        day = after.date()
        while day <= until.date():
            if self._matches(day):
                for at in self._times_of_day(after.time() if day == after.date() else time()):
                    local = datetime.combine(day, at)
                    if after < local <= until:
                        yield local
            day += DAY

    def _times_of_day(self, first: time) -> Iterator[time]:
        """The times of a day that matches, from the minute of `first` on."""
        seconds, minutes, hours = self._fields[:3]
        for hour in hours[bisect_left(hours, first.hour) :]:
            soonest = first.minute if hour == first.hour else 0
            for minute in minutes[bisect_left(minutes, soonest) :]:
                for second in seconds:
                    yield time(hour, minute, second)

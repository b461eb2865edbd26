"""When cron jobs are due, found by walking through UTC and looking at the clock: slow, and hard to get wrong.

It shares no code with the templates: it is given the numbers of the fields, not their text, and knows of a
zone only what its clocks show at a given moment.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, product
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Wanted:
    """The numbers of an expression. `days` and `weekdays` are None for `*`; Sunday is 0."""

    hours: Collection[int]
    minutes: Collection[int]
    seconds: Collection[int] = (0,)
    days: Collection[int] | None = None
    months: Collection[int] | None = None
    weekdays: Collection[int] | None = None

    def on(self, day: date) -> bool:
        """Whether the date fits."""
        if self.months is not None and day.month not in self.months:
            return False
        by_day = self.days is None or day.day in self.days
        by_weekday = self.weekdays is None or (day.weekday() + 1) % 7 in self.weekdays
        if self.days is not None and self.weekdays is not None:
            return by_day or by_weekday
        return by_day and by_weekday

    def at(self, shown: datetime) -> bool:
        """Whether the clock's time fits."""
        fits = shown.hour in self.hours and shown.minute in self.minutes and shown.second in self.seconds
        return fits and self.on(shown.date())


class Clock:
    """What the clocks of a zone show, every `step` from `start` to `end`; both in UTC."""

    def __init__(self, zone: str, start: datetime, end: datetime, step: timedelta) -> None:
        count = (end - start) // step + 1
        self.moments = [start + number * step for number in range(count)]
        zone_ = ZoneInfo(zone)
        self.shows = [moment.astimezone(zone_).replace(tzinfo=None) for moment in self.moments]

    def every_match(self, wanted: Wanted) -> list[datetime]:
        """Every moment at which the clock shows a time that is wanted."""
        return [m for m, shown in zip(self.moments, self.shows, strict=True) if wanted.at(shown)]

    def once_a_date(self, wanted: Wanted) -> list[datetime]:
        """For each date that is shown and each time of it: the first moment when the clock has got there.

        Moments that several times share count once.
        """
        furthest = list(accumulate(self.shows, max))
        found = set()
        for local in self._nominal(wanted, sorted({shown.date() for shown in self.shows})):
            index = bisect_left(furthest, local)
            if 0 < index < len(furthest):  # 0 may have been reached before the walk began
                found.add(self.moments[index])
        return sorted(found)

    def _nominal(self, wanted: Wanted, days: Iterable[date]) -> Iterable[datetime]:
        times = [time(*parts) for parts in product(wanted.hours, wanted.minutes, wanted.seconds)]
        return (datetime.combine(day, at) for day in days if wanted.on(day) for at in times)


def utc(text: str) -> datetime:
    """A moment in ISO 8601, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)

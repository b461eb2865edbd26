"""The fields of a cron expression: what their text means, and what is wrong with it.

Weekday numbers are cron's own (0 and 7 are Sunday), which APScheduler's are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = {name: number for number, name in enumerate(MONTH_NAMES, 1)}
WEEKDAYS = {name: number for number, name in enumerate(WEEKDAY_NAMES)}
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
PART = re.compile(r"(?P<first>\*|\w{1,9})(-(?P<last>\w{1,9}))?(/(?P<step>\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an expression: its name, its bounds, and the names that its numbers have."""

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)

    def parse(self, text: str) -> frozenset[int]:
        """The numbers that `text` means. Raises ValueError, which names the field and what is allowed."""
        numbers: set[int] = set()
        for part in text.split(","):
            match = PART.fullmatch(part)
            if match is None:
                raise self._wrong(part)
            numbers.update(self._numbers(match, part))
        return frozenset(numbers)

    def _numbers(self, match: re.Match[str], part: str) -> range:
        step = int(match["step"]) if match["step"] else 1
        if match["first"] == "*":
            if match["last"]:
                raise self._wrong(part)
            first, last = self.low, self.high
        else:
            first = self._number(match["first"], part)
            last = self._number(match["last"], part) if match["last"] else first
            if match["step"] and not match["last"]:
                last = self.high
        if not (self.low <= first <= last <= self.high and step >= 1):
            raise self._wrong(part)
        return range(first, last + 1, step)

    def _number(self, text: str, part: str) -> int:
        if text.isdecimal():
            return int(text)
        try:
            return self.names[text.upper()]
        except KeyError:
            raise self._wrong(part) from None

    def _wrong(self, part: str) -> ValueError:
        names = f" or {', '.join(self.names)}" if self.names else ""
        return ValueError(f"{self.name} {part!r}: {self.low} to {self.high}{names}, as *, a-b, a,b or */n")


FIELDS = (
    Field("second", 0, 59),
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 0, 7, WEEKDAYS),
)


def split(expression: str) -> tuple[str, ...]:
    """The texts of the six fields, seconds first. Raises ValueError for another number of fields."""
    texts = tuple(MACROS.get(expression.strip(), expression).split())
    if len(texts) not in (5, 6):
        macros = f", or one of {', '.join(MACROS)}" if expression.strip().startswith("@") else ""
        raise ValueError(
            "five fields are needed (minute, hour, day of the month, month, day of the week), or six with "
            f"seconds in front{macros}"
        )
    return texts if len(texts) == 6 else ("0", *texts)


def parse(texts: tuple[str, ...]) -> tuple[frozenset[int], ...]:
    """The numbers of each field. Raises ValueError."""
    return tuple(field_.parse(text) for field_, text in zip(FIELDS, texts, strict=True))

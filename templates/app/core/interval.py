"""Schedules that follow elapsed time: every so often, or once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from app.core.cron import ANCHOR, LAST_YEAR


@dataclass(frozen=True)
class Every:
    """At multiples of `interval` since `anchor`: a restart does not push it back, and replicas agree."""

    interval: timedelta
    anchor: datetime = ANCHOR

    def __post_init__(self) -> None:
        if self.interval < timedelta(seconds=1):
            raise ValueError(f"interval {self.interval}: at least a second is needed")
        if self.anchor.tzinfo is None:
            raise ValueError(f"anchor {self.anchor}: a time zone is needed")

    def __str__(self) -> str:
        anchor = "" if self.anchor == ANCHOR else f" from {self.anchor.isoformat()}"
        return f"every {self.interval}{anchor}"

    @property
    def zone(self) -> tzinfo:
        """See Schedule."""
        return self.anchor.tzinfo or UTC

    def after(self, moment: datetime) -> Iterator[datetime]:
        """See Schedule."""
        anchor = self.anchor.astimezone(UTC)
        due = anchor + ((moment - anchor) // self.interval + 1) * self.interval
        while due.year < LAST_YEAR:
            yield due
            due += self.interval


@dataclass(frozen=True)
class Once:
    """At one moment."""

    at: datetime

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError(f"moment {self.at}: a time zone is needed")

    def __str__(self) -> str:
        return f"once {self.at.isoformat()}"

    @property
    def zone(self) -> tzinfo:
        """See Schedule."""
        return self.at.tzinfo or UTC

    def after(self, moment: datetime) -> Iterator[datetime]:
        """See Schedule."""
        if self.at > moment:
            yield self.at.astimezone(UTC)

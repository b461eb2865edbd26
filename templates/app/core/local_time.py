"""Local time: what a zone's clocks show, and when, right on the days on which they change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def zone_of(name: str) -> ZoneInfo:
    """The time zone. Raises ValueError for one that there is not."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"time zone {name!r}: a name such as Europe/Berlin or UTC is needed, and the package tzdata "
            "where the system knows no time zones"
        ) from None


def shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the zone's clocks show at `moment`, without a zone."""
    return moment.astimezone(zone).replace(tzinfo=None)


def as_utc(local: datetime, offset: timedelta) -> datetime:
    """The moment at which a clock that is `offset` ahead of UTC shows `local`."""
    return (local - offset).replace(tzinfo=UTC)


def offset_at(moment: datetime, zone: ZoneInfo) -> timedelta:
    """How far the zone's clocks are ahead of UTC at `moment`."""
    return moment.astimezone(zone).utcoffset() or timedelta()


def offsets_between(start: datetime, end: datetime, zone: ZoneInfo) -> set[timedelta]:
    """The offsets that are in effect at some time from `start` to `end`; none lasts for less than an hour."""
    hours = (end - start) // HOUR
    return {offset_at(start + hour * HOUR, zone) for hour in range(hours + 1)} | {offset_at(end, zone)}


def first_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """When the zone's clocks first show `local`, or the moment after the gap that skips it."""
    early, late = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if shown(early, zone) == local:
        return early
    before, after = late, early  # in a gap fold 1 is the earlier moment
    target = offset_at(after, zone)
    while after - before > SECOND:
        middle = before + (after - before) // SECOND // 2 * SECOND
        if offset_at(middle, zone) == target:
            after = middle
        else:
            before = middle
    return after


def exists(day: date, zone: ZoneInfo) -> bool:
    """Whether the zone has this date; Apia has no 30 December 2011."""
    return shown(first_moment(datetime.combine(day, time()), zone), zone).date() == day

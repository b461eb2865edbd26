"""Rules about when a job is due, for APScheduler and Celery."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from checkkit.celery_config import Setting
from checkkit.look import Look
from checkkit.nodes import constant, keyword, lacks, last_name, text_of
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.rules_cron import ADD, is_scheduler, jobs, trigger
from checkkit.scope import Scope

TIMES = ("run_date", "next_run_time", "start_date", "end_date")


@in_module("CRON04", "from_crontab", "CronTrigger", *ADD)
def numbers_of_days(look: Look) -> Places:
    """Digits for days of the week, which APScheduler counts from Monday."""
    for call, _ in look.calls("from_crontab"):
        if look.name(call.func).startswith("apscheduler.") and call.args:
            fields = text_of(call.args[0]).split()
            if len(fields) == 5 and re.search(r"\d", fields[4].partition("/")[0]):
                yield call
    for call, _ in look.calls("CronTrigger", *ADD):
        day = constant(keyword(call, "day_of_week"))
        if day == 7 or (isinstance(day, str) and re.search(r"(^|[,-])7", day)):
            yield call


@in_module("CRON05", "crontab")
def every_minute(look: Look) -> Places:
    """`crontab(hour=3)` is due sixty times."""
    for call, _ in look.calls("crontab"):
        if not look.name(call.func).startswith("celery.") or call.args or not lacks(call, "minute"):
            continue
        given = {k.arg: constant(k.value) for k in call.keywords}
        if any(value != "*" for name, value in given.items() if name not in {"app", "nowfun"}):
            yield call


@in_module("CRON06", "CronTrigger", "from_crontab", *ADD)
def no_timezone(look: Look) -> Places:
    """Times of day without a time zone."""
    for call, _ in look.calls("CronTrigger", "from_crontab"):
        if look.name(call.func).startswith("apscheduler.triggers.cron") and lacks(call, "timezone"):
            if at_an_hour(call):
                yield call
    for call, scope in jobs(look):
        made = scheduler_call(look, call, scope)
        if constant(trigger(call)) == "cron" and lacks(call, "timezone") and made is not None:
            if lacks(made, "timezone") and not made.args and "configure" not in look.project.called:
                yield call


def at_an_hour(call: ast.Call) -> bool:
    """Whether a trigger without a zone is due at hours or days, and not every few minutes."""
    if last_name(call.func) == "from_crontab":
        fields = text_of(call.args[0] if call.args else None).split()
        return len(call.args) == 1 and len(fields) == 5 and set(fields[1:]) != {"*"}
    named = {k.arg for k in call.keywords if constant(k.value) != "*"}
    return not call.args and bool(named & {"hour", "day", "day_of_week", "week", "month", "year"})


def scheduler_call(look: Look, call: ast.Call, scope: Scope) -> ast.Call | None:
    """Where the scheduler that gets this job was made, if in this module."""
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return None
    for around in scope.chain:
        for value in around.binds.get(call.func.value.id, ()):
            return value if isinstance(value, ast.Call) and is_scheduler(look.name(value.func)) else None
    return None


@in_module(
    "CRON07", *ADD, "DateTrigger", "IntervalTrigger", "CronTrigger", "apply_async", "signature", "retry"
)
def naive_times(look: Look) -> Places:
    """A time without zone where another zone is assumed."""
    for call, _ in look.calls(*ADD, "DateTrigger", "IntervalTrigger", "CronTrigger"):
        for name in TIMES:
            value = keyword(call, name)
            if value is not None and "utcnow" in clock(value):
                yield value
    for call, _ in look.calls("apply_async", "signature", "retry"):
        value = keyword(call, "eta")
        if value is not None and "now" in clock(value) and look.project.uses("celery"):
            yield value


def clock(node: ast.expr) -> set[str]:
    """`utcnow` or a `now` without zone, if a time is made of one and nothing but durations."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and last_name(one.func) in {"replace", "astimezone", "localize"}:
            return set()
        if isinstance(one, ast.Call) and not one.args and not one.keywords:
            found.add(last_name(one.func))
    return found & {"utcnow", "now"}


@in_project("CRON12")
def beat_schedule(project: Project) -> Places:
    """Entries of beat that are no schedules."""
    for schedule in project.celery.settings.get("beat_schedule", []):
        yield from wrong_entries(schedule)


def wrong_entries(schedule: Setting) -> Iterator[Note]:
    """Entries whose `schedule` is a dict or a string."""
    if not isinstance(schedule.node, ast.Dict):
        return
    for entry in schedule.node.values:
        if not isinstance(entry, ast.Dict):
            continue
        for key, value in zip(entry.keys, entry.values, strict=True):
            if text_of(key) == "schedule" and (isinstance(value, ast.Dict) or text_of(value)):
                yield Note(schedule.path, value.lineno, value.col_offset + 1)


@in_module("CRON13", "CronTrigger", "from_crontab", *ADD)
def twice_a_year(look: Look) -> Places:
    """A time of day that the change of clocks repeats or leaves out."""
    for call, _ in look.calls("CronTrigger", "from_crontab"):
        if look.name(call.func).startswith("apscheduler.triggers.cron"):
            zone = keyword(call, "timezone") or (call.args[1] if len(call.args) > 1 else None)
            if name := changed(zone, hours(call)):
                yield call, name
    for call, scope in jobs(look):
        if constant(trigger(call)) == "cron":
            made = scheduler_call(look, call, scope)
            zone = keyword(call, "timezone") or (keyword(made, "timezone") if made is not None else None)
            if name := changed(zone, hours(call)):
                yield call, name


def hours(call: ast.Call) -> list[int]:
    """The hours of a day that are named as numbers."""
    value: object = constant(keyword(call, "hour"))
    if last_name(call.func) == "from_crontab":
        fields = text_of(call.args[0] if call.args else None).split()
        value = fields[1] if len(fields) == 5 else None
    text = str(value) if isinstance(value, int | str) else ""
    return (
        [int(one) for one in re.findall(r"\d+", text) if int(one) < 24] if not {"*", "/"} & set(text) else []
    )


def changed(zone: ast.expr | None, named: list[int]) -> str:
    """The zone, if its clocks are put forward or back in one of the hours."""
    if isinstance(zone, ast.Call) and last_name(zone.func) in {"ZoneInfo", "timezone", "gettz"} and zone.args:
        zone = zone.args[0]
    name = text_of(zone)
    return name if name and any(has_change(name, hour) for hour in named) else ""


@cache
def has_change(zone: str, hour: int) -> bool:
    """Whether half past `hour` is ambiguous, or does not exist, on some day of a year."""
    try:
        known = ZoneInfo(zone)
    except (OSError, ValueError, KeyError):  # KeyError: there is no such zone on this machine
        return False
    first = datetime(2026, 1, 1, hour, 30, tzinfo=known)
    days = (first + timedelta(days=n) for n in range(365))
    return any(day.utcoffset() != day.replace(fold=1).utcoffset() for day in days)


@in_module("CRON15")
def old_zones(look: Look) -> Places:
    """Zones of pytz, which APScheduler 3.11 no longer wants."""
    if "pytz" not in look.module.text or not look.project.versions.at_least("apscheduler", "3.11"):
        return
    for calls in look.module.by_name.values():
        for call, _ in calls:
            zone = keyword(call, "timezone")
            made = look.name(zone.func if isinstance(zone, ast.Call) else zone) if zone is not None else ""
            if made.startswith("pytz.") and look.project.uses("apscheduler"):
                yield call


@in_project("CRON16")
def no_expiry(project: Project) -> Places:
    """Ticks that pile up while no worker is there."""
    for schedule in project.celery.settings.get("beat_schedule", []):
        entries = schedule.node.values if isinstance(schedule.node, ast.Dict) else []
        for entry in entries:
            if isinstance(entry, ast.Dict) and all(key is not None for key in entry.keys):
                given = {text_of(k): v for k, v in zip(entry.keys, entry.values, strict=True)}
                options = given.get("options")
                named = options.keys if isinstance(options, ast.Dict) else []
                known = options is None or isinstance(options, ast.Dict)
                if known and "schedule" in given and "expires" not in {text_of(key) for key in named}:
                    yield Note(schedule.path, entry.lineno, entry.col_offset + 1)

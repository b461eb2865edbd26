"""When a cron job is due, as the command line says it and as Python says it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from workerkit.errors import TemplateError, UsageError
from workerkit.templates import TEMPLATES

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DURATION = re.compile(r"([1-9]\d{0,5})([smhd])")


def schedule_source(schedule: str, timezone: str, every: str) -> str:
    """The schedule as Python. Raises UsageError for one that makes no sense, with what is allowed."""
    if bool(schedule) == bool(every):
        raise UsageError('give either --schedule "30 2 * * *" with --timezone Europe/Berlin, or --every 5m')
    if every:
        if timezone:
            raise UsageError("--timezone: only with --schedule; --every follows elapsed time")
        return f"Every({duration('--every', every)})"
    if not timezone:
        raise UsageError("--timezone is needed with --schedule: the zone people mean, Europe/Berlin, or UTC")
    check_expression(schedule)
    check_zone(timezone)
    return f"Cron({json.dumps(' '.join(schedule.split()))}, {json.dumps(timezone)})"


def duration(option: str, given: str) -> str:
    """A length of time as Python. Raises UsageError."""
    match = DURATION.fullmatch(given)
    if match is None:
        raise UsageError(f"{option} {given}: write a length of time as 30s, 5m, 24h or 7d")
    return f"timedelta({UNITS[match[2]]}={match[1]})"


def check_expression(expression: str) -> None:
    """Raises UsageError for fields that the scheduler would refuse: it is asked itself."""
    fields = cron_fields()
    try:
        fields.parse(fields.split(expression))
    except ValueError as error:
        raise UsageError(f"--schedule {expression!r}: {error}") from error


@cache
def cron_fields() -> Any:
    """The template that reads cron expressions; it needs nothing but the standard library."""
    path = TEMPLATES / "app" / "core" / "cron_fields.py"
    spec = importlib.util.spec_from_file_location("workerkit_cron_fields", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TemplateError(f"{path}: not there; the skill is incomplete, install it again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for the annotations' names
    spec.loader.exec_module(module)
    return module


def check_zone(name: str) -> None:
    """Raises UsageError for a time zone that there is not, unless this machine knows none at all."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if available_timezones():
            raise UsageError(f"--timezone {name}: write a name such as Europe/Berlin or UTC") from error

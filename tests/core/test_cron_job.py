"""Definitions of jobs: what makes no sense is refused, with the job's name and what is allowed."""

import importlib
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

import app.jobs
from app.core.cron import Cron
from app.core.cron_job import CronJob, Tick
from app.core.cron_jobs import collect
from app.core.cron_scheduler import CronScheduler
from app.core.interval import Every
from app.core.outcomes import RefusedToStartError
from support.cron_oracle import utc

HOURLY = Every(timedelta(hours=1))


async def nothing(tick: Tick, session: AsyncSession) -> None:
    """A job that does nothing."""


async def too_few(tick: Tick) -> None:
    """A function that no job can call."""


def not_async(tick: Tick, session: AsyncSession) -> None:
    """A function that blocks."""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "two words"}, "name: 1 to 100 letters"),
        ({"name": ""}, "name: 1 to 100 letters"),
        ({"schedule": "0 3 * * *"}, "schedule='0 3 * * *': Cron(expression, timezone)"),
        ({"schedule": Cron(",".join(map(str, range(60))) + " " + "0," * 40 + "1 * * *", "UTC")}, "200 char"),
        ({"run": not_async}, "run: an `async def` function of (tick, session)"),
        ({"run": too_few}, "run: an `async def` function of (tick, session)"),
        ({"run": "run"}, "run: an `async def` function of (tick, session)"),
        ({"overlap": "allow"}, "overlap='allow': 'skip' or 'wait' is needed"),
        ({"catch_up": True}, "catch_up=True: 'none' or 'last' or 'all' is needed"),
        ({"within": timedelta()}, "within=datetime.timedelta(0): a timedelta from 1 s to 400 days"),
        ({"deadline": 3600}, "deadline=3600: a timedelta from 1 s to 400 days"),
        ({"deadline": timedelta(days=401)}, "400 days"),
        ({"jitter": timedelta(seconds=-1)}, "jitter="),
        ({"attempts": 0}, "attempts=0: 1 to 100 are allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], told: str) -> None:
    values: dict[str, Any] = {"name": "night_job", "schedule": HOURLY, "run": nothing} | given
    with pytest.raises(ValueError, match="cron job") as refused:
        CronJob(**values)
    assert told in str(refused.value)
    assert repr(values["name"]) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_key_of_a_tick_is_that_of_its_due_time() -> None:
    berlin = utc("2026-10-25T00:30").astimezone(ZoneInfo("Europe/Berlin"))
    first, again = Tick("job", berlin, 1), Tick("job", utc("2026-10-25T00:30"), 2, "manual")
    assert first.idempotency_key == again.idempotency_key
    assert uuid.UUID(first.idempotency_key)
    # The other 02:30 of that night is another tick
    other = utc("2026-10-25T01:30").astimezone(ZoneInfo("Europe/Berlin"))
    assert other.replace(tzinfo=None) == berlin.replace(tzinfo=None)
    assert Tick("job", other).idempotency_key != first.idempotency_key
    assert Tick("other", berlin).idempotency_key != first.idempotency_key


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is all of `app.jobs`."""
    monkeypatch.setattr(app.jobs, "__path__", [str(tmp_path)])
    monkeypatch.setattr(app.jobs.__spec__, "submodule_search_locations", [str(tmp_path)])
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("app.jobs."):
            del sys.modules[name]


GOOD = """
from datetime import timedelta
from app.core.cron import Cron
from app.core.cron_job import CronJob
from app.core.interval import Every
async def run(tick, session): ...
job = CronJob({name!r}, {schedule}, run)
"""


def write(folder: Path, module: str, name: str, schedule: str = "Every(timedelta(hours=1))") -> None:
    (folder / f"{module}.py").write_text(GOOD.format(name=name, schedule=schedule))


def test_all_modules_of_the_folder_are_jobs(jobs: Path) -> None:
    write(jobs, "b_job", "b")
    write(jobs, "a_job", "a")
    (jobs / "_helper.py").write_text("1 / 0\n")
    assert [job.name for job in collect()] == ["a", "b"]


def test_a_definition_that_makes_no_sense_is_one_line(jobs: Path) -> None:
    write(jobs, "good", "good")
    write(jobs, "bad_expression", "bad", "Cron('61 * * * *', 'UTC')")
    write(jobs, "bad_zone", "bad", "Cron('0 3 * * *', 'Europe/Berln')")
    (jobs / "helper.py").write_text("")
    with pytest.raises(RefusedToStartError) as refused:
        collect()
    first, *lines = str(refused.value).splitlines()
    assert first == "cron jobs refused:"
    expression, zone, helper = lines
    assert expression.startswith(
        "app.jobs.bad_expression: cron expression '61 * * * *': minute '61': 0 to 59"
    )
    assert zone.startswith("app.jobs.bad_zone: time zone 'Europe/Berln': a name such as Europe/Berlin")
    assert helper.startswith("app.jobs.helper: `job = CronJob(...)` is needed")


def test_two_jobs_of_one_name_are_refused(jobs: Path) -> None:
    write(jobs, "one", "same")
    write(jobs, "two", "same")
    with pytest.raises(RefusedToStartError, match="several jobs are named 'same'"):
        collect()


def test_a_bug_in_a_module_is_a_bug(jobs: Path) -> None:
    (jobs / "bug.py").write_text("import there_is_no_such_module\n")
    with pytest.raises(ModuleNotFoundError):
        collect()


def test_a_scheduler_without_jobs_refuses_to_start(jobs: Path) -> None:
    with pytest.raises(RefusedToStartError, match="no cron jobs"):
        CronScheduler(collect())


def test_the_jobs_of_the_templates() -> None:
    assert {job.name for job in collect()} == {"expire_orders", "report_request", "sales_report"}

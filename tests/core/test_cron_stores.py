"""Why APScheduler's job stores and its shutdown are not used."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler

from support.wait import eventually

HOURLY = {"trigger": "interval", "hours": 1}


@pytest.fixture
def nightly(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project's module with a job."""
    module: Any = ModuleType("nightly")
    module.report = lambda: None
    monkeypatch.setitem(sys.modules, "nightly", module)
    return module


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Any]:
    """A scheduler whose jobs are stored."""
    store = SQLAlchemyJobStore(url=f"sqlite:///{tmp_path / 'jobs.db'}")
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start(paused=True)
    yield scheduler
    scheduler.shutdown()


def test_a_store_deletes_the_schedule_of_a_renamed_function(scheduler: Any, nightly: Any) -> None:
    scheduler.add_job("nightly:report", **HOURLY, id="report")
    # Given a release in which the function has another name
    nightly.daily_report = nightly.report
    del nightly.report
    assert scheduler.get_jobs() == []
    # Then the schedule is gone, also when that release is taken back
    nightly.report = nightly.daily_report
    assert scheduler.get_jobs() == []


def test_a_store_has_one_more_job_after_each_start(scheduler: Any, nightly: Any) -> None:
    for _ in range(2):
        scheduler.add_job("nightly:report", **HOURLY)
    assert len(scheduler.get_jobs()) == 2
    scheduler.add_job("nightly:report", **HOURLY, id="report")
    with pytest.raises(ConflictingIdError):
        scheduler.add_job("nightly:report", **HOURLY, id="report")


async def test_shutdown_waits_for_nothing() -> None:
    begun, ended = asyncio.Event(), list[str]()

    async def report() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("in the middle")
            raise

    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.add_job(report)
    scheduler.start()
    await asyncio.wait_for(begun.wait(), 60)
    scheduler.shutdown(wait=True)
    await eventually(lambda: ended == ["in the middle"], 60)

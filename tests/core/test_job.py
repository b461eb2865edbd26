"""Kinds of jobs: what makes no sense is refused; what becomes of an attempt; what a function sees."""

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_settings as settings_module
from app.core.job import KINDS, JobContext, JobKind, UnstorableError, job, json_text
from app.core.job_attempt import Attempt
from app.core.job_settings import JobSettings, job_settings
from app.core.job_store import Settlement
from app.core.outcomes import Dead, Done, Down, Outcome, Postpone, RefusedToStartError, Retry
from app.core.retry import RetryPolicy

HOUR = timedelta(hours=1)


class Payload(BaseModel):
    """What the job is about."""

    order_id: int = 1


async def nothing(context: JobContext[Payload], session: AsyncSession) -> None:
    """A job that does nothing."""


def not_async(context: JobContext[Payload], session: AsyncSession) -> None:
    """A function that blocks."""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "no.version"}, "has no version"),
        ({"handle": not_async}, "an `async def` function of (job, session)"),
        ({"timeout": timedelta()}, "0 < timeout <= deadline <= 400 days"),
        ({"timeout": 2 * HOUR, "deadline": HOUR}, "0 < timeout <= deadline"),
        ({"deadline": timedelta(days=401)}, "400 days"),
        ({"attempts": 0}, "attempts=0: 1 to 100 are allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], told: str) -> None:
    values: dict[str, Any] = {"name": "a.job.v1", "payload": Payload, "handle": nothing} | given
    with pytest.raises(ValueError, match=repr(values["name"])) as refused:
        JobKind(**values)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.fixture
def taken() -> Iterator[str]:
    """A name that a kind has."""
    job("taken.v1", Payload)(nothing)
    yield "taken.v1"
    del KINDS["taken.v1"]


def test_a_name_is_taken_once(taken: str) -> None:
    with pytest.raises(ValueError, match="has one of that name"):
        job(taken, Payload)(nothing)


def test_what_a_function_sees() -> None:
    id_ = uuid.uuid4()
    first, again = (JobContext(id_, "a.v1", Payload(), "ada", attempt) for attempt in (1, 2))
    assert first.idempotency_key == again.idempotency_key
    assert uuid.UUID(first.idempotency_key) != id_
    first.report(7, "a\x00b" * 1000)
    assert (first.progress, len(first.note or "")) == (1.0, 1000)
    first.report(-1)
    assert (first.progress, first.note) == (0.0, None)


def test_json_that_can_be_stored() -> None:
    assert json_text(Payload(order_id=2)) == '{"order_id":2}'
    assert json_text({"number": float("nan")}) == '{"number":null}'
    assert json_text({"path": "C:\\u0000"}) == '{"path":"C:\\\\u0000"}'
    for text in ("\x00", "\\\x00", "\ud800"):
        with pytest.raises(UnstorableError):
            json_text({"text": text})


def attempt(number: int = 1, excused: int = 0, most: int = 3, left: float = 1000) -> Attempt:
    """An attempt whose pauses are as long as they may be."""
    row: Any = SimpleNamespace(attempt=number, excused=excused, max_attempts=most)
    policy = RetryPolicy(base=2, cap=100, attempts=8, draw=lambda: 1.0)
    return Attempt(row, time.monotonic() + left, time.monotonic(), policy)


@pytest.mark.parametrize(
    ("given", "outcome", "wanted"),
    [
        ({}, Done(), None),
        ({}, Retry("why"), Settlement("queued", "why", 2)),
        ({"number": 2}, Retry("why"), Settlement("queued", "why", 4)),
        ({}, Retry("why", 30), Settlement("queued", "why", 32)),
        ({"number": 3}, Retry("why"), Settlement("failed", "gave up after 3 attempts: why")),
        ({"number": 3, "excused": 1}, Retry("why"), Settlement("queued", "why", 4)),
        (
            {"left": 1},
            Retry("why"),
            Settlement("failed", "no time for another attempt before its deadline: why"),
        ),
        ({"number": 3}, Postpone("why", 7), Settlement("queued", "why", 7, excused=True)),
        ({"number": 3}, Down("why"), Settlement("queued", "why", 2, excused=True)),
        ({}, Dead("why"), Settlement("failed", "why")),
    ],
)
def test_what_becomes_of_an_attempt(
    given: dict[str, Any], outcome: Outcome, wanted: Settlement | None
) -> None:
    assert attempt(**given).settled(outcome) == wanted


def test_settings_that_would_give_work_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert JobSettings(job_lease_seconds=3, job_poll_seconds=1).lease == timedelta(seconds=3)
    monkeypatch.setenv("JOB_LEASE_SECONDS", "2")
    job_settings.cache_clear()
    with pytest.raises(RefusedToStartError, match="JOB_LEASE_SECONDS=2: at least 3 times JOB_POLL_SECONDS"):
        settings_module.job_settings()
    job_settings.cache_clear()

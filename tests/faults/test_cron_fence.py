"""The fence: whoever comes late, after another attempt has begun, changes nothing."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import cron_attempt, cron_store
from app.core.cron_attempt import Attempt
from app.core.cron_job import CronJob, Tick
from app.core.interval import Every
from app.core.outcomes import Dead, Done, Postpone
from support.cron_scene import CronScene
from support.producer import Sessions, sessions_for


@pytest.fixture
async def sessions(cron: CronScene, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sessions]:
    """Sessions of the test's database, for the templates too."""
    async with sessions_for(cron.postgres_url) as sessions:

        @asynccontextmanager
        async def get_session() -> AsyncIterator[AsyncSession]:
            async with sessions.begin() as session:
                yield session

        for module in (cron_attempt, cron_store):
            monkeypatch.setattr(module, "get_session", get_session)
        yield sessions


async def effect(tick: Tick, session: AsyncSession) -> None:
    """The job's work."""
    event = "INSERT INTO order_event (order_id, kind, detail) VALUES (1, 'tick', 'job 1')"
    await session.execute(text(event))


JOB = CronJob("job", Every(timedelta(hours=1)), effect)


async def attempt_of(cron: CronScene, *, number: int, row: int, state: str = "running") -> Attempt:
    """Attempt `number` of a run that is at attempt `row` by now."""
    await cron.orders(1)
    (found,) = await cron.sql(
        "INSERT INTO cron_run (job, due_at, trigger, state, attempt, next_try_at, deadline_at)"
        " VALUES ('job', now(), 'schedule', $1, $2, now(), now() + interval '1 h') RETURNING id",
        state,
        row,
    )
    now = time.monotonic()
    return Attempt(JOB, found["id"], number, 0, datetime.now(UTC), "schedule", now + 60, now)


async def test_the_attempt_that_counts_commits(cron: CronScene, sessions: Sessions) -> None:
    attempt = await attempt_of(cron, number=2, row=2)
    assert await attempt.decide(8) == Done()
    assert len(await cron.ticks_done()) == 1
    assert await cron.states("job") == {"succeeded": 1}


@pytest.mark.parametrize(("row", "state"), [(2, "running"), (2, "waiting"), (2, "succeeded"), (1, "waiting")])
async def test_a_late_attempt_is_rolled_back(
    cron: CronScene, sessions: Sessions, row: int, state: str
) -> None:
    attempt = await attempt_of(cron, number=1, row=row, state=state)
    assert await attempt.decide(8) == Postpone("another attempt has begun")
    assert await cron.ticks_done() == []
    assert await cron.states("job") == {state: 1}


async def test_a_commit_in_the_job_is_not_fenced(cron: CronScene, sessions: Sessions) -> None:
    # Given a late attempt of a job whose service commits
    async def commits(tick: Tick, session: AsyncSession) -> None:
        await effect(tick, session)
        await session.commit()

    attempt = await attempt_of(cron, number=1, row=2)
    attempt.job = replace(JOB, run=commits)
    # Then it does not end well, and its effect is there all the same
    assert not isinstance(await attempt.decide(8), Done)
    assert len(await cron.ticks_done()) == 1


async def test_a_late_note_changes_nothing(cron: CronScene, sessions: Sessions) -> None:
    attempt = await attempt_of(cron, number=1, row=2)
    await cron_store.settle(attempt.id, attempt.number, Dead("late"), 0)
    assert await cron.states("job") == {"running": 1}
    await cron_store.settle(attempt.id, 2, Dead("in time"), 0)
    assert await cron.states("job") == {"failed": 1}

"""What people do with cron jobs, from any process: look at them, run one now, pause it, resume it.

Everything is in the database; schedulers see it within a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron_job import CronJob
from app.core.database import get_session
from app.core.outcomes import WorkerError

STATES = text(
    """
    SELECT known.job, now() AS now,
           (SELECT min(paused_at) FROM cron_job WHERE cron_job.job = known.job) AS paused_at,
           (SELECT count(*) FROM cron_run
            WHERE cron_run.job = known.job AND state IN ('waiting', 'running')) AS open,
           last.*
    FROM unnest(CAST(:jobs AS text[])) AS known (job)
    LEFT JOIN LATERAL (
        SELECT id, due_at, trigger, state, attempt, started_at, finished_at, error
        FROM cron_run WHERE cron_run.job = known.job AND finished_at IS NOT NULL
        ORDER BY due_at DESC LIMIT 1) AS last ON true
    """
)
FORGOTTEN = text("SELECT DISTINCT job FROM cron_job WHERE job <> ALL (CAST(:jobs AS text[])) ORDER BY job")
HISTORY = text("SELECT * FROM cron_run WHERE job = :job ORDER BY due_at DESC LIMIT :limit")
# Requests come one after the other, so that each sees the run that the one before has added. The lock ends
# with the transaction; a session's lock would stay with the pooled connection.
IN_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('cron_run ' || CAST(:job AS text), 0))")
NOW = text("SELECT clock_timestamp()")
# A run that waits for its retry is started at once, and that of a paused job in spite of the pause.
HURRY = text(
    """
    UPDATE cron_run SET next_try_at = least(next_try_at, clock_timestamp()),
           trigger = CASE WHEN state = 'waiting' THEN 'manual' ELSE trigger END
    WHERE id = (SELECT id FROM cron_run
                WHERE job = :job AND state IN ('running', 'waiting') AND deadline_at > clock_timestamp()
                ORDER BY state, due_at LIMIT 1)
    RETURNING *
    """
)
ADD = text(
    """
    INSERT INTO cron_run (job, due_at, trigger, state, next_try_at, deadline_at)
    VALUES (:job, :due_at, 'manual', 'waiting', clock_timestamp(),
            clock_timestamp() + CAST(:patience AS interval))
    ON CONFLICT (job, due_at) DO NOTHING
    RETURNING *
    """
)
# All attempts so far are excused: the run starts afresh, under the same idempotency key.
AGAIN = text(
    """
    UPDATE cron_run SET state = 'waiting', trigger = 'manual', excused = attempt, error = NULL,
           started_at = NULL, finished_at = NULL, next_try_at = clock_timestamp(),
           deadline_at = clock_timestamp() + CAST(:patience AS interval)
    WHERE job = :job AND due_at = :due_at AND state IN ('failed', 'skipped')
    RETURNING *
    """
)
AT = text("SELECT * FROM cron_run WHERE job = :job AND due_at = :due_at")
PAUSE = text(
    """
    INSERT INTO cron_job (job, schedule, planned_until, paused_at) VALUES (:job, :schedule, now(), now())
    ON CONFLICT (job, schedule) DO UPDATE SET paused_at = coalesce(cron_job.paused_at, now())
    """
)
# The ticks of the pause are not made up, also when no scheduler was there to see them pass.
RESUME = text(
    """
    UPDATE cron_job SET paused_at = NULL,
           planned_until = CASE WHEN planned_until < paused_at THEN planned_until
                                ELSE greatest(planned_until, now()) END
    WHERE job = :job AND paused_at IS NOT NULL
    """
)


class NotDueError(WorkerError):
    """A run was asked for that must not be: it has succeeded, or its time has not come."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run. `state` is waiting, running, succeeded, failed or skipped."""

    id: int
    due_at: datetime
    trigger: str
    state: str
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> RunInfo:
        """The run in a row."""
        return cls(
            row.id,
            row.due_at,
            row.trigger,
            row.state,
            row.attempt,
            row.started_at,
            row.finished_at,
            row.error,
        )


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job. `open` counts the runs that wait or run; `last` is the newest one that has ended."""

    name: str
    schedule: str
    overlap: str
    catch_up: str
    next_due_at: datetime | None
    paused_at: datetime | None
    open: int
    last: RunInfo | None


async def states(jobs: Sequence[CronJob]) -> list[JobInfo]:
    """How the jobs stand."""
    known = {job.name: job for job in jobs}
    async with get_session() as session:
        rows = await session.execute(STATES, {"jobs": list(known)})
        return [state_of(known[row.job], row) for row in rows]


def state_of(job: CronJob, row: Row[Any]) -> JobInfo:
    """How one job stands."""
    return JobInfo(
        name=job.name,
        schedule=str(job.schedule),
        overlap=job.overlap,
        catch_up=job.catch_up,
        next_due_at=next((due.astimezone(job.schedule.zone) for due in job.schedule.after(row.now)), None),
        paused_at=row.paused_at,
        open=row.open,
        last=RunInfo.of(row) if row.id is not None else None,
    )


async def forgotten(jobs: Sequence[CronJob]) -> list[str]:
    """Names in the database that no job has any more: they were removed or renamed."""
    async with get_session() as session:
        return list(await session.scalars(FORGOTTEN, {"jobs": [job.name for job in jobs]}))


async def history(name: str, limit: int = 20) -> list[RunInfo]:
    """The latest runs of a job, by their due time, the newest first; also of one that is no more."""
    async with get_session() as session:
        return [RunInfo.of(row) for row in await session.execute(HISTORY, {"job": name, "limit": limit})]


async def run_now(job: CronJob, due_at: datetime | None = None) -> tuple[RunInfo, bool]:
    """Have the job run now; the run, and whether this call has brought it about.

    A run that goes on or waits is the answer to everybody who asks, so many requests make one run. With
    `due_at` that tick is run, also one that has failed or was skipped: what it is about is its due time.

    Raises NotDueError for a `due_at` that lies ahead or whose run has succeeded.
    """
    async with get_session() as session:
        await session.execute(IN_TURN, {"job": job.name})
        now: datetime = (await session.execute(NOW)).scalar_one()
        if due_at is not None and due_at > now:
            raise NotDueError(f"{job.name}: {due_at.isoformat()} lies ahead")
        if due_at is None and (row := (await session.execute(HURRY, {"job": job.name})).first()):
            return RunInfo.of(row), False
        return await add(session, job, due_at or now.replace(microsecond=0), again=due_at is not None)


async def add(session: AsyncSession, job: CronJob, due_at: datetime, *, again: bool) -> tuple[RunInfo, bool]:
    """The run of a due time, which is added unless it is there, and whether it was brought about."""
    values = {"job": job.name, "due_at": due_at, "patience": job.start_within}
    for statement in (ADD, AGAIN) if again else (ADD,):
        if row := (await session.execute(statement, values)).first():
            return RunInfo.of(row), True
    found = RunInfo.of((await session.execute(AT, {"job": job.name, "due_at": due_at})).one())
    if again and found.state == "succeeded":
        raise NotDueError(f"{job.name}: the run of {due_at.isoformat()} has succeeded")
    return found, False


async def pause(job: CronJob) -> None:
    """Start no more runs of the job. What runs goes on; ticks that come meanwhile are not made up."""
    async with get_session() as session:
        await session.execute(PAUSE, {"job": job.name, "schedule": str(job.schedule)})


async def resume(job: CronJob) -> bool:
    """Start runs of the job again; whether it was paused."""
    async with get_session() as session:
        return bool(getattr(await session.execute(RESUME, {"job": job.name}), "rowcount", 0))

"""Turns due ticks into rows of `cron_run`, once, however many schedulers do it, by the database's clock."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron_job import CronJob
from app.core.cron_plan import Plan, plan
from app.core.database import get_session

logger = logging.getLogger(__name__)

# How far a schedule looks back when another version of the project has planned the job since: longer than
# two versions that run side by side are apart, short enough for a version that was rolled back to.
LOOK_BACK = timedelta(seconds=60)
AFTER_A_BUG = timedelta(seconds=60)

REGISTER = text(
    """
    INSERT INTO cron_job (job, schedule, planned_until)
    SELECT job, schedule, now()
    FROM unnest(CAST(:jobs AS text[]), CAST(:schedules AS text[])) AS known (job, schedule)
    ON CONFLICT DO NOTHING
    """
)
# A scheduler that is frozen in the middle holds the rows until the server ends its session.
LOCK = text(
    """
    SELECT c.job, c.planned_until, now() AS now,
           EXISTS (SELECT FROM cron_job p WHERE p.job = c.job AND p.paused_at IS NOT NULL) AS paused,
           (SELECT max(o.planned_until) FROM cron_job o
            WHERE o.job = c.job AND o.schedule <> c.schedule) AS elsewhere
    FROM cron_job c
    WHERE (c.job, c.schedule) IN
          (SELECT * FROM unnest(CAST(:jobs AS text[]), CAST(:schedules AS text[])))
      AND set_config('idle_in_transaction_session_timeout', '10s', true) IS NOT NULL
    FOR UPDATE OF c SKIP LOCKED
    """
)
INSERT = text(
    """
    INSERT INTO cron_run (job, due_at, trigger, state, next_try_at, deadline_at, error, finished_at)
    SELECT job, due_at, trigger, CASE WHEN error IS NULL THEN 'waiting' ELSE 'skipped' END,
           due_at + delay, now() + patience, error, CASE WHEN error IS NOT NULL THEN now() END
    FROM unnest(CAST(:jobs AS text[]), CAST(:dues AS timestamptz[]), CAST(:triggers AS text[]),
                CAST(:delays AS interval[]), CAST(:patiences AS interval[]), CAST(:errors AS text[]))
         AS ticks (job, due_at, trigger, delay, patience, error)
    ON CONFLICT (job, due_at) DO NOTHING
    """
)
PLANNED = text(
    """
    UPDATE cron_job SET planned_until = planned.until
    FROM unnest(CAST(:jobs AS text[]), CAST(:schedules AS text[]), CAST(:untils AS timestamptz[]))
         AS planned (job, schedule, until)
    WHERE cron_job.job = planned.job AND cron_job.schedule = planned.schedule
    """
)


async def register(jobs: Iterable[CronJob]) -> None:
    """Make jobs and schedules known. A new one starts now: it has no past to make up."""
    async with get_session() as session:
        await session.execute(REGISTER, names(jobs))


def names(jobs: Iterable[CronJob]) -> dict[str, list[Any]]:
    """Names and schedules as arrays of one length."""
    chosen = list(jobs)
    return {"jobs": [job.name for job in chosen], "schedules": [str(job.schedule) for job in chosen]}


async def plan_ticks(
    jobs: Iterable[CronJob], grace: timedelta, draw: Callable[[], float] = random.random
) -> dict[str, Plan]:
    """Turn what is due into rows; what was planned for each job. Jobs that another scheduler is at are left
    out. `draw` returns a number from 0 to 1, for the jitter.
    """
    known = {job.name: job for job in jobs}
    async with get_session() as session:
        rows = (await session.execute(LOCK, names(known.values()))).all()
        plans = {row.job: plan_row(known[row.job], row, grace) for row in rows}
        await insert(session, [(known[name], found) for name, found in plans.items()], draw)
        untils = {"untils": [found.planned_until for found in plans.values()]}
        await session.execute(PLANNED, names(known[name] for name in plans) | untils)
    return plans


def plan_row(job: CronJob, row: Row[Any], grace: timedelta) -> Plan:
    """Plan one job from where its row says; a paused one only moves on."""
    since = row.planned_until
    if row.elsewhere is not None:
        since = max(since, min(row.elsewhere, row.now) - LOOK_BACK)
    try:
        found = plan(job, since, row.now, grace)
    except Exception:  # a schedule of the project's own; the other jobs must not pay for it
        logger.exception("cron job %s: its schedule failed", job.name)
        return Plan(since, row.now + AFTER_A_BUG)
    if row.paused:
        return Plan(found.planned_until, found.next_due)
    if found.missed is not None:
        logger.warning("cron job %s: %s", job.name, found.missed)
    return found


async def insert(
    session: AsyncSession, plans: Iterable[tuple[CronJob, Plan]], draw: Callable[[], float]
) -> None:
    """Write the rows of ticks that are to run, and one for each stretch of missed ones."""
    rows: list[tuple[Any, ...]] = []
    for job, found in plans:
        if found.missed is not None:
            at_once = timedelta()
            rows.append((job.name, found.missed.first, "schedule", at_once, at_once, str(found.missed)))
        for tick in found.ticks:
            delay = job.jitter * draw()
            rows.append((job.name, tick.due_at, tick.trigger, delay, job.start_within, None))
    if rows:
        rows.sort(
            key=lambda row: row[:2]
        )  # two versions that insert the same ticks wait for each other in order
        columns = ("jobs", "dues", "triggers", "delays", "patiences", "errors")
        await session.execute(INSERT, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))

"""What schedulers do with the rows of `cron_run`. The only clock here is the database's.

Short transactions say `now()`, when they began; what may have waited says `clock_timestamp()`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.cron_job import CronJob
from app.core.database import get_session
from app.core.outcomes import Dead, Down, Postpone, Retry

# A lease is over when it was not renewed in time, unless the server was away and could not be told.
LAPSED = """(
    r.state = 'running' AND r.lease_until < now()
    AND pg_postmaster_start_time() < now() - CAST(:lease AS interval))"""


def with_lapsed(statement: str) -> TextClause:
    """A statement that says LAPSED of a row `r`."""
    return text(statement.replace("LAPSED", LAPSED))


# A runner that was taken for dead may only be frozen: its transaction must neither hold locks that the next
# attempt needs nor commit later. `cron_attempt` gives its sessions these names.
END_FORMER = with_lapsed(
    """
    SELECT count(pg_terminate_backend(a.pid))
    FROM cron_run r JOIN pg_stat_activity a ON a.application_name = 'cron_run ' || r.id || ' ' || r.attempt
    WHERE LAPSED AND a.datname = current_database() AND a.usename = current_user
    """
)
# Only a run that was under way at the due time is an overlap; a tick that was found late is not.
SKIP = text(
    """
    UPDATE cron_run SET state = 'skipped', finished_at = now(), error = 'an earlier run was still going on'
    WHERE id IN (
        SELECT w.id FROM cron_run w
        WHERE w.state = 'waiting' AND w.attempt = 0 AND w.trigger <> 'manual' AND w.next_try_at <= now()
          AND w.job = ANY (CAST(:skipping AS text[]))
          AND EXISTS (SELECT FROM cron_run r WHERE r.job = w.job AND r.state = 'running'
                      AND r.lease_until > now() AND r.started_at < w.next_try_at)
        FOR UPDATE SKIP LOCKED)
    """
)
# The oldest tick of each job of which none is running, and runs whose runner is dead.
CLAIM = with_lapsed(
    """
    WITH known AS MATERIALIZED (
        SELECT k.job, k.deadline FROM unnest(CAST(:jobs AS text[]), CAST(:deadlines AS interval[]))
               AS k (job, deadline)),
    ready AS MATERIALIZED (
        SELECT DISTINCT ON (r.job) r.id
        FROM cron_run r JOIN known USING (job)
        WHERE r.state = 'waiting' AND r.next_try_at <= now() AND r.deadline_at > now()
          AND (r.trigger = 'manual' OR NOT EXISTS (
               SELECT FROM cron_job c WHERE c.job = r.job AND c.paused_at IS NOT NULL))
          AND NOT EXISTS (SELECT FROM cron_run o WHERE o.job = r.job AND o.state = 'running')
        ORDER BY r.job, r.due_at),
    lapsed AS MATERIALIZED (
        SELECT r.id FROM cron_run r JOIN known USING (job)
        WHERE LAPSED AND r.deadline_at > now() AND r.id <> ALL (CAST(:held AS bigint[]))),
    taken AS MATERIALIZED (
        SELECT id FROM cron_run
        WHERE id IN (SELECT id FROM ready UNION ALL SELECT id FROM lapsed)
          AND (state = 'waiting' AND next_try_at <= now() OR state = 'running' AND lease_until < now())
        ORDER BY next_try_at LIMIT :room FOR UPDATE SKIP LOCKED)
    UPDATE cron_run AS run
    SET state = 'running', attempt = run.attempt + 1, runner = :runner,
        lease_until = clock_timestamp() + CAST(:lease AS interval), started_at = clock_timestamp(),
        deadline_at = CASE WHEN run.started_at IS NULL THEN clock_timestamp() + known.deadline
                           ELSE run.deadline_at END
    FROM taken, known
    WHERE run.id = taken.id AND known.job = run.job
    RETURNING run.id, run.job, run.due_at, run.trigger, run.attempt, run.excused,
              run.deadline_at - clock_timestamp() AS remaining
    """
)
NEXT = text(
    """
    SELECT clock_timestamp() AS now,
           (SELECT min(next_try_at) FROM cron_run
            WHERE state = 'waiting' AND next_try_at > now() AND job = ANY (CAST(:jobs AS text[]))) AS next_try
    """
)
# A row that is locked is being finished, by its runner. What comes back is still ours.
RENEW = text(
    """
    WITH mine AS MATERIALIZED (
        SELECT id FROM cron_run WHERE id = ANY (CAST(:ids AS bigint[])) AND runner = :runner
        AND state = 'running' FOR UPDATE SKIP LOCKED),
    renewed AS (
        UPDATE cron_run SET lease_until = clock_timestamp() + CAST(:lease AS interval)
        FROM mine WHERE cron_run.id = mine.id)
    SELECT id FROM cron_run
    WHERE id = ANY (CAST(:ids AS bigint[])) AND runner = :runner AND state = 'running'
    """
)
# Fenced: who comes late, after another attempt has begun, changes nothing.
SETTLE = text(
    """
    UPDATE cron_run
    SET state = CAST(:state AS text), error = :error, excused = excused + :excused,
        runner = NULL, lease_until = NULL,
        next_try_at = clock_timestamp() + CAST(:pause AS interval),
        finished_at = CASE WHEN CAST(:state AS text) = 'failed' THEN clock_timestamp() END
    WHERE id = :id AND attempt = :attempt AND state = 'running'
    """
)
EXPIRE = with_lapsed(
    """
    UPDATE cron_run r
    SET state = CASE WHEN attempt = 0 THEN 'skipped' ELSE 'failed' END, finished_at = now(),
        lease_until = NULL,
        error = CASE WHEN attempt = 0 THEN 'not started in time: no scheduler knew the job or had room for it'
                     ELSE 'not finished by its deadline' || coalesce('; ' || error, '') END
    WHERE r.deadline_at <= now() AND (r.state = 'waiting' OR LAPSED)
    RETURNING job, due_at, error
    """
)
PRUNE = text(
    """
    DELETE FROM cron_run WHERE id = ANY (ARRAY(
        SELECT id FROM cron_run WHERE finished_at < now() - CAST(:keep AS interval)
        LIMIT 1000 FOR UPDATE SKIP LOCKED))
    """
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Runs that are ours now, when the next one that waits may start, and what the database's clock shows."""

    runs: Sequence[Row[Any]]
    next_try: datetime | None
    now: datetime


async def claim(
    jobs: Collection[CronJob], *, room: int, runner: str, lease: timedelta, held: Collection[int]
) -> Claim:
    """Start up to `room` runs for `runner`."""
    values = {"lease": lease, "jobs": [job.name for job in jobs]}
    async with get_session() as session:
        await session.execute(END_FORMER, {"lease": lease})
        await session.execute(SKIP, {"skipping": [job.name for job in jobs if job.overlap == "skip"]})
        mine = {"room": room, "runner": runner, "held": list(held)}
        rows = await session.execute(CLAIM, values | mine | {"deadlines": [job.deadline for job in jobs]})
        runs = rows.all()
        after = (await session.execute(NEXT, {"jobs": values["jobs"]})).one()
    return Claim(runs, after.next_try, after.now)


async def renew(session: AsyncSession, ids: Collection[int], runner: str, lease: timedelta) -> set[int]:
    """Keep the runs `ids` of `runner`; those that are still its own."""
    rows = await session.execute(RENEW, {"ids": list(ids), "runner": runner, "lease": lease})
    return set(rows.scalars())


async def settle(id_: int, attempt: int, outcome: Retry | Postpone | Down | Dead, pause: float) -> None:
    """Note what became of an attempt that did not succeed; the next one may start in `pause` seconds."""
    values = {
        "id": id_,
        "attempt": attempt,
        "state": "failed" if isinstance(outcome, Dead) else "waiting",
        "error": outcome.reason,
        "excused": int(isinstance(outcome, Postpone | Down)),
        "pause": timedelta(seconds=pause),
    }
    async with get_session() as session:
        await session.execute(SETTLE, values)


async def expire(lease: timedelta) -> Sequence[Row[Any]]:
    """Give up what has passed its deadline with nobody at it, jobs that are no more included; the rows."""
    async with get_session() as session:
        return (await session.execute(EXPIRE, {"lease": lease})).all()


async def prune(keep: timedelta) -> int:
    """Delete up to 1,000 runs that ended longer than `keep` ago; how many."""
    async with get_session() as session:
        return int(getattr(await session.execute(PRUNE, {"keep": keep}), "rowcount", 0))

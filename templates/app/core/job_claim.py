"""Which of the jobs that wait in the table are started next: fair to all owners, and within the limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text

from app.core.database import get_session
from app.core.job import KINDS
from app.core.job_settings import JobSettings
from app.core.job_store import HELD

# One claim at a time: two would not see what the other one starts, and exceed the limits together. A worker
# that freezes in the middle does not hold up the others for long.
BEGIN = text(
    """
    SELECT set_config('idle_in_transaction_session_timeout', '5s', true),
           set_config('lock_timeout', '5s', true)
    """
)
SUSPECT_FROM = 2
DUE = """state = 'queued' AND via = 'table' AND job.owner = lane.owner AND job.queue = lane.queue
             AND next_try_at <= statement_timestamp() AND deadline_at > statement_timestamp()
             AND kind = ANY (CAST(:kinds AS text[]))"""
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('claim of jobs', 0))")
# A lane is an owner's jobs of one queue. The index finds the lanes without reading the jobs, and the first
# few of each. `turn` is how many jobs of its lane would run: the lane with the fewest goes first. Jobs whose
# workers have died twice are suspects: a worker has one of them at a time, so that the one which kills
# does not take the others with it each time.
CLAIM = text(
    f"""
    WITH RECURSIVE lane AS (
        (SELECT owner, queue FROM job WHERE state = 'queued' AND via = 'table'
         ORDER BY owner, queue LIMIT 1)
        UNION ALL
        SELECT following.owner, following.queue FROM lane CROSS JOIN LATERAL (
            SELECT owner, queue FROM job
            WHERE state = 'queued' AND via = 'table' AND (job.owner, job.queue) > (lane.owner, lane.queue)
            ORDER BY owner, queue LIMIT 1) AS following),
    busy AS MATERIALIZED (
        SELECT owner, queue, count(*) AS jobs FROM job
        WHERE state IN {HELD} AND via = 'table' GROUP BY owner, queue),
    room AS (
        SELECT given.queue, given.most - coalesce(sum(busy.jobs), 0) AS jobs
        FROM unnest(CAST(:queues AS text[]), CAST(:limits AS int[])) AS given (queue, most)
        LEFT JOIN busy ON busy.queue = given.queue GROUP BY given.queue, given.most),
    beside AS MATERIALIZED (
        SELECT count(*) AS suspects FROM job
        WHERE state IN {HELD} AND runner = :runner AND lapsed >= {SUSPECT_FROM}),
    waiting AS MATERIALIZED (
        SELECT first.*, lane.queue, coalesce(busy.jobs, 0) + row_number()
                   OVER (PARTITION BY lane.owner, lane.queue ORDER BY first.priority DESC, first.next_try_at)
               AS turn
        FROM lane LEFT JOIN busy USING (owner, queue)
        CROSS JOIN LATERAL (
            (SELECT id, priority, next_try_at, false AS suspect FROM job
             WHERE {DUE} AND lapsed < {SUSPECT_FROM} ORDER BY priority DESC, next_try_at
             LIMIT least(CAST(:room AS int), greatest(0, CAST(:per_owner AS int) - coalesce(busy.jobs, 0))))
            UNION ALL
            (SELECT id, priority, next_try_at, true AS suspect FROM job
             WHERE {DUE} AND lapsed >= {SUSPECT_FROM} ORDER BY priority DESC, next_try_at
             LIMIT greatest(0, 1 - (SELECT suspects FROM beside)))
        ) AS first),
    fitting AS (
        SELECT *, row_number() OVER (PARTITION BY suspect ORDER BY priority DESC, turn, next_try_at) AS nth
        FROM waiting WHERE turn <= CAST(:per_owner AS int)),
    placed AS (
        SELECT id, priority, turn, next_try_at, queue,
               row_number() OVER (PARTITION BY queue ORDER BY priority DESC, turn, next_try_at) AS place
        FROM fitting WHERE nth = 1 OR NOT suspect),
    chosen AS MATERIALIZED (
        SELECT placed.id FROM placed LEFT JOIN room USING (queue)
        WHERE room.jobs IS NULL OR placed.place <= room.jobs
        ORDER BY placed.priority DESC, placed.turn, placed.next_try_at LIMIT CAST(:room AS int))
    UPDATE job SET state = 'running', attempt = attempt + 1, runner = :runner,
           started_at = clock_timestamp(), lease_until = clock_timestamp() + CAST(:lease AS interval)
    WHERE id = ANY (ARRAY(
        SELECT job.id FROM job JOIN chosen USING (id) WHERE job.state = 'queued'
        FOR UPDATE OF job SKIP LOCKED))
    RETURNING id, kind, owner, payload, attempt, excused, max_attempts,
              deadline_at - clock_timestamp() AS remaining
    """  # noqa: S608  # HELD is ours
)


async def claim(settings: JobSettings, runner: str, room: int) -> Sequence[Row[Any]]:
    """Start up to `room` jobs of the kinds that this process knows."""
    values = {
        "kinds": [kind.name for kind in KINDS.values() if kind.via != "celery"],
        "room": room,
        "per_owner": settings.job_per_owner,
        "queues": list(settings.job_limits),
        "limits": list(settings.job_limits.values()),
        "runner": runner,
        "lease": settings.lease,
    }
    async with get_session() as session:
        await session.execute(BEGIN)
        await session.execute(LOCK)
        return (await session.execute(CLAIM, values)).all()

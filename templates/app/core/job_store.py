"""What is done with the rows of `job`. The only clock here is the database's.

Short transactions say `now()`, when they began; what may have waited says `clock_timestamp()`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.dead_letter_table import storable

CHANNEL = "job"
# What a notification says when a job that runs is cancelled; others say nothing.
CANCELS = "cancel"
HELD = "('running', 'cancelling')"
# One round trip: the row, and the wake-up that PostgreSQL sends when the transaction commits.
INSERT = """
    WITH added AS (
        INSERT INTO job (id, kind, via, queue, owner, priority, state, payload, max_attempts, next_try_at,
                         deadline_at, idempotency_key, request_hash)
        SELECT CAST(:id AS uuid), :kind, :via, :queue, CAST(:owner AS varchar), :priority, 'queued',
               CAST(:payload AS jsonb), :max_attempts, now() + CAST(:not_before AS interval),
               now() + CAST(:deadline AS interval), CAST(:idempotency_key AS varchar), :request_hash
        {condition}
        RETURNING id, kind, created_at, deadline_at, request_hash)
    SELECT added.*, true AS new, pg_notify(:channel, '') FROM added
"""
PLAIN = text(INSERT.format(condition=""))
# Of two transactions with one key the second does not wait for the first: it may take long to commit.
KEYED = text(
    INSERT.format(
        condition="""
        WHERE pg_try_advisory_xact_lock(hashtextextended(:lock, 0))
        ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"""
    )
)
FIRST = text(
    """
    SELECT id, kind, created_at, deadline_at, request_hash, false AS new
    FROM job WHERE owner = :owner AND idempotency_key = :idempotency_key
    """
)
# The one way to start: of any number of claimers, and of any number of messages with its id, one gets it.
CLAIM = text(
    """
    UPDATE job SET state = 'running', attempt = attempt + 1, runner = :runner,
           started_at = clock_timestamp(), lease_until = clock_timestamp() + CAST(:lease AS interval)
    WHERE id = :id AND state = 'queued'
      AND next_try_at <= clock_timestamp() AND deadline_at > clock_timestamp()
    RETURNING id, kind, owner, payload, attempt, excused, max_attempts,
              deadline_at - clock_timestamp() AS remaining
    """
)
# Heartbeat, progress, and news of a cancellation in one statement; rows are written only when there is
# something to write. A row that is locked is being finished, by its runner.
BEAT = text(
    f"""
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]),
                             CAST(:progress AS float8[]), CAST(:notes AS text[]))
               AS g (id, attempt, progress, note)),
    due AS MATERIALIZED (
        SELECT job.id, given.progress, given.note FROM job JOIN given USING (id, attempt)
        WHERE job.state IN {HELD}
          AND (job.lease_until < clock_timestamp() + CAST(:lease AS interval) * 2 / 3
               OR given.progress <> job.progress OR given.note <> coalesce(job.note, ''))
        FOR UPDATE OF job SKIP LOCKED),
    beaten AS (
        UPDATE job SET lease_until = clock_timestamp() + CAST(:lease AS interval),
               progress = coalesce(due.progress, job.progress), note = coalesce(due.note, job.note)
        FROM due WHERE job.id = due.id)
    SELECT job.id, job.attempt, job.state FROM job JOIN given USING (id, attempt) WHERE job.state IN {HELD}
    """  # noqa: S608  # HELD is ours
)
# For the transaction of an attempt only. The name lets whoever takes over end the session of a frozen
# runner; without anybody to do so, the server ends it when its time is well over.
BEGIN = text(
    """
    SELECT set_config('application_name', :name, true),
           set_config('idle_in_transaction_session_timeout', :idle, true)
    """
)
# The last statement before the commit. Until then the row is free for heartbeats, and for others to take
# over; after it there is nothing to wait for. No row: it is no longer ours, and all is rolled back.
FINISH = text(
    f"""
    UPDATE job SET state = 'succeeded', result = CAST(:result AS jsonb), error = NULL, progress = 1,
           runner = NULL, lease_until = NULL, finished_at = clock_timestamp()
    WHERE id = :id AND attempt = :attempt AND state IN {HELD}
      AND set_config('idle_in_transaction_session_timeout', '10s', true) IS NOT NULL
    RETURNING 1
    """  # noqa: S608
)
# A job that is to be cancelled has no other attempt.
NEXT = """CASE WHEN state = 'cancelling' AND CAST(:state AS varchar) = 'queued' THEN 'cancelled'
           ELSE CAST(:state AS varchar) END"""
SETTLE = text(
    f"""
    UPDATE job
    SET state = {NEXT}, error = :error, excused = excused + :excused, lapsed = 0, runner = NULL,
        lease_until = NULL, next_try_at = clock_timestamp() + CAST(:pause AS interval),
        sent_at = CASE WHEN {NEXT} <> 'queued' THEN sent_at END, sends = 0,
        finished_at = CASE WHEN {NEXT} <> 'queued' THEN clock_timestamp() END
    WHERE id = :id AND attempt = :attempt AND state IN {HELD}
    RETURNING id, kind, state, payload, attempt, error
    """  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A row to be: see the table's model. Times are counted from the transaction's beginning."""

    id: uuid.UUID
    kind: str
    via: str
    queue: str
    owner: str
    priority: int
    payload: str
    max_attempts: int
    not_before: timedelta
    deadline: timedelta
    idempotency_key: str | None
    request_hash: str | None


class InHand(Protocol):
    """A job that is ours, and what is to be shown of it."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def number(self) -> int: ...
    @property
    def progress(self) -> float | None: ...
    @property
    def note(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of an attempt that did not succeed. `reason` is for the job's owner, `detail` for those
    who look after it. `pause` is in seconds; an `excused` attempt uses up none.
    """

    state: Literal["queued", "failed", "cancelled", "expired"]
    reason: str
    pause: float = 0.0
    excused: bool = False
    detail: str | None = None


async def add(session: AsyncSession, job: NewJob) -> Row[Any] | None:
    """Add a row in the session's transaction, or find the one that its key stands for; `new` says which.
    None: another transaction is at it.
    """
    values = asdict(job) | {"channel": CHANNEL}
    if job.idempotency_key is None:
        return (await session.execute(PLAIN, values)).one()
    values["lock"] = f"job {job.owner} {job.idempotency_key}"
    added = (await session.execute(KEYED, values)).first()
    return added or (await session.execute(FIRST, values)).first()


async def claim(id_: uuid.UUID, runner: str, lease: timedelta) -> Row[Any] | None:
    """Start a job that is queued and due; None when there is nothing to do."""
    async with get_session() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        return (await session.execute(CLAIM, {"id": id_, "runner": runner, "lease": lease})).first()


async def beat(
    session: AsyncSession, jobs: Sequence[InHand], lease: timedelta
) -> dict[tuple[uuid.UUID, int], str]:
    """Keep the leases of `jobs` and write how far they are; the states of those that are still ours,
    by id and attempt.
    """
    values = {
        "ids": [job.id for job in jobs],
        "attempts": [job.number for job in jobs],
        "progress": [job.progress for job in jobs],
        "notes": [job.note for job in jobs],
        "lease": lease,
    }
    return {(row.id, row.attempt): row.state for row in await session.execute(BEAT, values)}


async def settle(
    session: AsyncSession, id_: uuid.UUID, attempt: int, settlement: Settlement
) -> Row[Any] | None:
    """Note in the session's transaction what becomes of a job; None: it is no longer this attempt's."""
    values = {
        "id": id_,
        "attempt": attempt,
        "state": settlement.state,
        "error": storable(settlement.reason)[:2000],
        "excused": int(settlement.excused),
        "pause": timedelta(seconds=settlement.pause),
    }
    return (await session.execute(SETTLE, values)).first()

"""What is done with jobs from outside, by any process: look at them, cancel one, start a failed one again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.job_store import CANCELS, CHANNEL

State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"]
ENDED = ("succeeded", "failed", "cancelled", "expired")
COLUMNS = """id, kind, state, progress, note, attempt, result, error, created_at, started_at, finished_at,
    cancel_requested_at, deadline_at"""
# Of all owners' jobs only the claim knows the order; that of one owner's is plain.
AHEAD = """CASE WHEN state = 'queued' THEN (SELECT count(*) FROM (
        SELECT 1 FROM job AS other
        WHERE other.state = 'queued' AND other.via = job.via
          AND other.owner = job.owner AND other.queue = job.queue
          AND (-other.priority, other.next_try_at, other.id) < (-job.priority, job.next_try_at, job.id)
        LIMIT 1000) AS earlier) END AS ahead"""
FIND = text(f"SELECT {COLUMNS}, {AHEAD} FROM job WHERE id = :id AND owner = :owner")  # noqa: S608  # ours
PAGE = text(
    f"""
    SELECT {COLUMNS} FROM job
    WHERE owner = :owner
      AND (CAST(:kind AS varchar) IS NULL OR kind = :kind)
      AND (CAST(:state AS varchar) IS NULL OR state = :state)
      AND (CAST(:at AS timestamptz) IS NULL OR (created_at, id) < (:at, CAST(:id AS uuid)))
    ORDER BY created_at DESC, id DESC LIMIT :limit
    """  # noqa: S608
)
CANCEL = text(
    """
    WITH asked AS (
        UPDATE job
        SET cancel_requested_at = coalesce(cancel_requested_at, now()),
            state = CASE state WHEN 'queued' THEN 'cancelled' ELSE 'cancelling' END,
            error = CASE state WHEN 'queued' THEN 'cancelled by request' ELSE error END,
            finished_at = CASE state WHEN 'queued' THEN now() END
        WHERE id = :id AND owner = :owner AND state IN ('queued', 'running')
        RETURNING state)
    SELECT pg_notify(:channel, :cancels) FROM asked WHERE state = 'cancelling'
    """
)
# All attempts so far are excused: the job starts afresh, under the same idempotency keys.
REOPEN = text(
    """
    WITH opened AS (
        UPDATE job SET state = 'queued', excused = attempt, lapsed = 0, error = NULL, finished_at = NULL,
               sent_at = NULL, sends = 0, progress = 0, note = NULL, next_try_at = now(),
               deadline_at = now() + (deadline_at - created_at)
        WHERE id = :id AND state = 'failed' RETURNING 1)
    SELECT pg_notify(:channel, '') FROM opened
    """
)


class JobOut(BaseModel):
    """A job as its owner sees it. `result` is there when it has succeeded; `error` says why it ended
    otherwise, or why it is tried again. `deadline_at` is when it is given up, `ahead` how many other jobs of
    the owner and the queue go first while it waits, a thousand at most; None in lists.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: uuid.UUID
    kind: str
    state: State
    progress: float
    note: str | None
    attempt: int
    result: Any
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    deadline_at: datetime
    ahead: int | None = None

    @computed_field  # type: ignore[prop-decorator]  # a property of pydantic's
    @property
    def status(self) -> State:
        """The state, under the name that clients of most APIs look for."""
        return self.state

    @property
    def ended(self) -> bool:
        """Whether it stays as it is."""
        return self.state in ENDED


async def find(id_: uuid.UUID, owner: str) -> JobOut | None:
    """The owner's job of that id."""
    async with get_session() as session:
        row = (await session.execute(FIND, {"id": id_, "owner": owner})).first()
    return JobOut.model_validate(row) if row else None


async def page(
    owner: str,
    *,
    kind: str | None = None,
    state: str | None = None,
    after: tuple[datetime, uuid.UUID] | None = None,
    limit: int = 50,
) -> Sequence[JobOut]:
    """The owner's jobs, the newest first, from the one behind `after`."""
    at, id_ = after or (None, None)
    values = {"owner": owner, "kind": kind, "state": state, "at": at, "id": id_, "limit": limit}
    async with get_session() as session:
        return [JobOut.model_validate(row) for row in await session.execute(PAGE, values)]


async def cancel(id_: uuid.UUID, owner: str) -> JobOut | None:
    """Cancel the owner's job: one that waits never starts, one that runs is told so. One that has ended
    stays as it is. None without such a job.
    """
    async with get_session() as session:
        values = {"id": id_, "owner": owner, "channel": CHANNEL, "cancels": CANCELS}
        await session.execute(CANCEL, values)
        row = (await session.execute(FIND, {"id": id_, "owner": owner})).first()
    return JobOut.model_validate(row) if row else None


async def reopen(session: AsyncSession, id_: uuid.UUID) -> bool:
    """Start a failed job again when the session's transaction commits; whether it was there and failed."""
    return (await session.execute(REOPEN, {"id": id_, "channel": CHANNEL})).first() is not None

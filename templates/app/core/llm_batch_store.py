"""What is done with the rows of `llm_batch`, and with jobs in a batch. The only clock is the database's."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.job import KINDS
from app.core.job_events import ATTEMPT
from app.core.job_store import HELD
from app.core.llm_batch_settings import LlmBatchSettings
from app.core.outcomes import WorkerError

DUE = """state = 'queued' AND sent_at IS NULL AND via = 'batch' AND next_try_at <= now()
         AND deadline_at > now() AND kind = ANY (CAST(:kinds AS text[]))"""
# `lapsed` is how often the batch of a job was refused, or killed its worker: such jobs are asked in batches
# an eighth as large each time, until the one that is to blame is alone. The lease of a job ends with its
# deadline: until then the row of its batch says who cares for it.
COLLECT = text(
    f"""
    WITH level AS MATERIALIZED (SELECT max(lapsed) AS lapsed FROM job WHERE {DUE}),
    chosen AS MATERIALIZED (
        SELECT job.id, job.lapsed, job.next_try_at FROM job
        WHERE {DUE} AND lapsed = (SELECT lapsed FROM level) ORDER BY priority DESC, next_try_at
        LIMIT greatest(1, CAST(:most AS int) >> least(30, 3 * (SELECT coalesce(lapsed, 0) FROM level)))
        FOR UPDATE OF job SKIP LOCKED)
    UPDATE job SET state = 'running', attempt = attempt + 1, runner = :runner,
           started_at = clock_timestamp(), lease_until = deadline_at
    FROM chosen
    WHERE job.id = chosen.id AND EXISTS (
        SELECT FROM chosen HAVING count(*) >= CAST(:most AS int) OR max(lapsed) > 0
               OR min(next_try_at) <= now() - CAST(:wait AS interval))
    RETURNING job.id, kind, owner, payload, attempt, excused, max_attempts,
              deadline_at - clock_timestamp() AS remaining
    """  # noqa: S608  # the parts are ours, as below
)
ADD = text(
    """
    INSERT INTO llm_batch (id, holder, look_at)
    VALUES (:id, :holder, clock_timestamp() + CAST(:lease AS interval))
    """
)
TAKE = text(
    """
    UPDATE llm_batch SET holder = :holder, look_at = clock_timestamp() + CAST(:lease AS interval)
    WHERE id = (SELECT id FROM llm_batch WHERE ended_at IS NULL AND look_at <= clock_timestamp()
                ORDER BY look_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, holder, requests, looks, model, provider_id, posted_at
    """
)
OURS = "WHERE id = :id AND holder = :holder AND ended_at IS NULL RETURNING 1"
KEEP = text(
    f"""
    UPDATE llm_batch
    SET look_at = greatest(look_at, clock_timestamp() + CAST(:lease AS interval)) {OURS}
    """  # noqa: S608
)
LATER = text(
    f"""
    UPDATE llm_batch SET look_at = clock_timestamp() + CAST(:pause AS interval), looks = looks + 1,
           note = :note {OURS}
    """  # noqa: S608
)
POST = text(
    f"UPDATE llm_batch SET posted_at = clock_timestamp(), requests = :requests, model = :model {OURS}"  # noqa: S608
)
ACCEPT = text(
    f"""
    UPDATE llm_batch SET provider_id = :provider_id, looks = 0, note = NULL,
           look_at = clock_timestamp() + CAST(:pause AS interval) {OURS}
    """  # noqa: S608
)
END = text(
    f"""
    UPDATE llm_batch SET ended_at = clock_timestamp(), input_tokens = :input_tokens,
           output_tokens = :output_tokens, cost = :cost, note = :note {OURS}
    """  # noqa: S608
)
KNOWN = text("SELECT provider_id FROM llm_batch WHERE provider_id IS NOT NULL")
PRUNE = text("DELETE FROM llm_batch WHERE ended_at < now() - CAST(:keep AS interval)")
WANTED = text("SELECT EXISTS (SELECT FROM job WHERE runner = :runner AND state = 'running')")
# With what was said when the job was put into the batch: the first event of its attempt.
IN_BATCH = text(
    f"""
    SELECT job.id, kind, owner, payload, attempt, excused, max_attempts, lapsed,
           deadline_at - clock_timestamp() AS remaining, event.data AS started
    FROM job LEFT JOIN job_event AS event
         ON event.job_id = job.id AND event.id = CAST(job.attempt AS bigint) * {ATTEMPT} + 1
    WHERE state IN {HELD} AND runner = :runner
      AND (CAST(:ids AS uuid[]) IS NULL OR job.id = ANY (CAST(:ids AS uuid[])))
    ORDER BY job.id FOR UPDATE OF job
    """  # noqa: S608
)
ANSWERED = text("UPDATE job SET via = 'table' WHERE id = ANY (CAST(:ids AS uuid[]))")
SUSPECT = text("UPDATE job SET lapsed = :lapsed WHERE id = :id AND state = 'queued'")


class LostError(WorkerError):
    """Somebody else works on the batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A row of `llm_batch` that is ours."""

    id: uuid.UUID
    holder: str
    requests: int = 0
    looks: int = 0
    model: str | None = None
    provider_id: str | None = None
    posted_at: datetime | None = None

    @property
    def runner(self) -> str:
        """What the jobs in it are held by."""
        return f"batch {self.id}"


async def collect(
    settings: LlmBatchSettings, holder: str, lease: timedelta
) -> tuple[Batch, Sequence[Row[Any]]] | None:
    """Put jobs that wait into a new batch; None when there are too few and none has waited for long."""
    batch = Batch(uuid.uuid4(), holder)
    values = {
        "kinds": [kind.name for kind in KINDS.values() if kind.via == "batch"],
        "most": settings.llm_batch_most,
        "wait": timedelta(seconds=settings.llm_batch_wait_seconds),
        "runner": batch.runner,
    }
    async with get_session() as session:
        rows = (await session.execute(COLLECT, values)).all()
        if rows:
            await session.execute(ADD, {"id": batch.id, "holder": holder, "lease": lease})
    return (batch, rows) if rows else None


async def take(holder: str, lease: timedelta, keep: timedelta) -> Batch | None:
    """A batch that is to be looked at; those that ended long ago are deleted on the way."""
    async with get_session() as session:
        await session.execute(PRUNE, {"keep": keep})
        row = (await session.execute(TAKE, {"holder": holder, "lease": lease})).first()
    return Batch(**row._mapping) if row else None  # noqa: SLF001  # SQLAlchemy's public name for it


async def keep(session: AsyncSession, batch: Batch, lease: timedelta = timedelta()) -> None:
    """Keep the lease; nobody takes it before the session's transaction ends. Raises LostError."""
    await change(session, KEEP, batch, lease=lease)


async def later(batch: Batch, pause: float, note: str | None = None) -> None:
    """Look at it again in `pause` seconds. Raises LostError."""
    async with get_session() as session:
        await change(session, LATER, batch, pause=timedelta(seconds=pause), note=note)


async def accept(batch: Batch, provider_id: str, pause: float) -> None:
    """Note that the provider has it, and under which id. Raises LostError."""
    async with get_session() as session:
        await change(session, ACCEPT, batch, provider_id=provider_id, pause=timedelta(seconds=pause))


async def post(session: AsyncSession, batch: Batch, requests: int, model: str) -> None:
    """Note that the provider is about to be asked. Raises LostError."""
    await change(session, POST, batch, requests=requests, model=model)


async def end(session: AsyncSession, batch: Batch, used: Mapping[str, Any], note: str | None) -> None:
    """Note that it is over. Raises LostError."""
    await change(session, END, batch, **used, note=note)


async def change(session: AsyncSession, statement: Any, batch: Batch, **values: Any) -> None:
    """Change the row if it is ours. Raises LostError."""
    given = {"id": batch.id, "holder": batch.holder, **values}
    if (await session.execute(statement, given)).first() is None:
        raise LostError(f"batch {batch.id} is in other hands")


async def in_batch(
    session: AsyncSession, batch: Batch, ids: Iterable[uuid.UUID] | None = None
) -> Sequence[Row[Any]]:
    """The jobs, all or those of `ids`, that are in the batch, and stay so until the transaction ends."""
    values = {"runner": batch.runner, "ids": None if ids is None else list(ids)}
    return (await session.execute(IN_BATCH, values)).all()


async def wanted(batch: Batch) -> bool:
    """Whether anybody waits for its results."""
    async with get_session() as session:
        return bool((await session.execute(WANTED, {"runner": batch.runner})).scalar_one())


async def known() -> set[str]:
    """The provider's ids of the batches that have theirs."""
    async with get_session() as session:
        return set((await session.execute(KNOWN)).scalars())

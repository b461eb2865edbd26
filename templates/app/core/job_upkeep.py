"""Upkeep of the table `job`: what nobody holds any more is queued again, what is over is ended and deleted.

Any number of processes may do it at the same time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.dead_letter_table import bury
from app.core.deadline import within
from app.core.failures import describe
from app.core.job_settings import JobSettings
from app.core.job_store import HELD
from app.core.stuck import end_stuck_sessions

SOURCE = "job"
STEP_TIMEOUT = 15.0
PRUNE_EVERY = 30.0
logger = logging.getLogger(__name__)

# A lease is over when it was not renewed in time, unless the server was away and could not be told.
LAPSED = f"""(
    r.state IN {HELD} AND r.lease_until < now()
    AND pg_postmaster_start_time() < now() - CAST(:lease AS interval))"""

# The transaction of a runner that is only frozen must neither hold locks that the next attempt needs nor
# commit later. `job_attempt` gives its sessions these names.
END_FORMER = text(
    f"""
    SELECT count(pg_terminate_backend(a.pid))
    FROM job r JOIN pg_stat_activity a ON a.application_name = 'job ' || r.id || ' ' || r.attempt
    WHERE {LAPSED} AND a.datname = current_database() AND a.usename = current_user
    """  # noqa: S608  # the parts are ours
)
RECOVER = text(
    f"""
    WITH lapsed AS MATERIALIZED (
        SELECT r.id,
               CASE WHEN r.state = 'cancelling' THEN 'cancelled'
                    WHEN r.deadline_at <= now() THEN 'expired'
                    WHEN r.attempt - r.excused >= r.max_attempts THEN 'failed'
                    ELSE 'queued' END AS next
        FROM job r WHERE {LAPSED} ORDER BY r.lease_until LIMIT 500 FOR UPDATE SKIP LOCKED)
    UPDATE job
    SET state = lapsed.next, lapsed = job.lapsed + 1, runner = NULL, lease_until = NULL,
        next_try_at = now(), sends = 0, sent_at = CASE WHEN lapsed.next <> 'queued' THEN sent_at END,
        finished_at = CASE WHEN lapsed.next <> 'queued' THEN now() END,
        error = CASE lapsed.next
            WHEN 'cancelled' THEN 'cancelled by request'
            WHEN 'expired' THEN 'not finished by its deadline'
            WHEN 'failed' THEN 'started ' || attempt - excused
                               || ' times and never finished: it may kill its worker'
            ELSE 'its worker was not heard of any more' END
    FROM lapsed WHERE job.id = lapsed.id
    RETURNING job.id, kind, state, payload, attempt, error
    """  # noqa: S608
)
EXPIRE = text(
    """
    UPDATE job SET state = 'expired', finished_at = now(),
           error = 'not finished by its deadline' || coalesce('; ' || error, '')
    WHERE id IN (SELECT id FROM job WHERE state = 'queued' AND deadline_at <= now()
                 LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING id, kind, state, payload, attempt, error
    """
)
PRUNE = text(
    """
    DELETE FROM job WHERE id = ANY (ARRAY(
        SELECT id FROM job WHERE finished_at < now() - CAST(:keep AS interval)
        LIMIT 1000 FOR UPDATE SKIP LOCKED))
    """
)


async def recover(lease: timedelta) -> int:
    """Take jobs from workers that are dead and end those that are past their deadline; how many are queued
    again.
    """
    async with get_session() as session:
        await session.execute(END_FORMER, {"lease": lease})
        lapsed = (await session.execute(RECOVER, {"lease": lease})).all()
        await note_ends(session, [*lapsed, *(await session.execute(EXPIRE)).all()])
    return sum(row.state == "queued" for row in lapsed)


async def note_ends(session: AsyncSession, rows: Sequence[Row[Any]], detail: str | None = None) -> None:
    """Keep a dead letter of each of `rows` that has failed, and tell of it."""
    for row in rows:
        level = logging.ERROR if row.state in ("failed", "expired") else logging.WARNING
        logger.log(
            level, "job %s %s, attempt %d: %s, %s", row.kind, row.id, row.attempt, row.state, row.error
        )
        if row.state == "failed":
            await bury(
                session,
                source=SOURCE,
                id=str(row.id),
                body=letter(row),
                reason=detail or row.error,
                attempts=row.attempt,
            )


def letter(row: Row[Any]) -> bytes:
    """A job as a message, so that it looks like other dead letters."""
    event = {"specversion": "1.0", "id": str(row.id), "source": SOURCE, "type": row.kind, "data": row.payload}
    return json.dumps(event).encode()


async def prune(keep: timedelta) -> int:
    """Delete up to 1,000 jobs that ended longer than `keep` ago; how many."""
    async with get_session() as session:
        return int(getattr(await session.execute(PRUNE, {"keep": keep}), "rowcount", 0))


async def free() -> None:
    """End sessions of frozen workers that hold rows."""
    await end_stuck_sessions("job")


class Upkeep:
    """The loops of a process that does it. `wake` is called when jobs are queued again; `problem` says why
    none are.
    """

    def __init__(self, settings: JobSettings, wake: Callable[[], None]) -> None:
        self.settings = settings
        self.problem: str | None = None
        self._wake = wake

    async def recover(self) -> None:
        """Queue again what dead workers held, for ever."""
        while True:
            try:
                if await within(STEP_TIMEOUT, recover(self.settings.lease)):
                    self._wake()
                self.problem = None
            except Exception as error:  # shown by `problem`; the next turn tries again
                if self.problem is None:
                    logger.warning("nothing is recovered: %s", describe(error))
                self.problem = f"nothing is recovered: {describe(error)}"
            await asyncio.sleep(self.settings.job_poll_seconds * random.uniform(0.8, 1.2))

    async def prune(self) -> None:
        """Delete jobs that ended long ago, a thousand at a time, for ever."""
        while True:
            await asyncio.sleep(PRUNE_EVERY * random.uniform(0.8, 1.2))
            try:
                await free()
                while await prune(self.settings.keep):
                    await asyncio.sleep(0.1)
            except Exception as error:  # nothing depends on it; the next turn tries again
                logger.debug("not pruned: %s", describe(error))

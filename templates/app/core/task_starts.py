"""Counts the starts of messages whose worker died, so that one that kills its worker is found out.

The first start of a message is not noted, which spares most messages a transaction: that there was one shows
when it is delivered again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, text

from app.core.database import get_session

COUNT = text(
    """
    INSERT INTO task_start (task, message_id, attempt, starts) VALUES (:task, :id, :attempt, :by)
    ON CONFLICT (task, message_id, attempt)
    DO UPDATE SET starts = task_start.starts + excluded.starts, noted_at = now()
    RETURNING starts
    """
)
PRUNE = text(
    """
    DELETE FROM task_start WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM task_start WHERE noted_at < now() - CAST(:keep AS interval)
        LIMIT 1000 FOR UPDATE SKIP LOCKED))
    """
)


async def note_start(task: str, id_: str, attempt: int) -> int:
    """Note, before it begins, that a message is started again; how many starts in vain there were before."""
    return await count(task, id_, attempt, 1)


async def excuse_start(task: str, id_: str, attempt: int) -> None:
    """This start was cut short by a shutdown and counts as none."""
    await count(task, id_, attempt, -1)


async def count(task: str, id_: str, attempt: int, by: int) -> int:
    """Add to the starts of an attempt, in a transaction of its own."""
    async with get_session() as session:
        values: dict[str, Any] = {"task": task[:200], "id": id_[:401], "attempt": attempt, "by": by}
        return int((await session.execute(COUNT, values)).scalar_one())


async def prune(keep: timedelta) -> int:
    """Delete some of the rows that are older than `keep`; the number deleted."""
    async with get_session() as session:
        result = await session.execute(PRUNE, {"keep": keep})
        return result.rowcount if isinstance(result, CursorResult) else 0

"""A job that waits for others: the end of a fan-out.

    async def report(context: JobContext[Report], session: AsyncSession) -> Outcome | Total:
        parts = await results(session, context.data.parts)
        if not isinstance(parts, list):
            return parts
        return Total(pages=sum(part["pages"] for part in parts))

The parts and the job that waits for them are submitted in one transaction. Nothing is counted and nobody is
called back: it looks at their rows whenever it is started, so there is no signal that could get lost.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.outcomes import Dead, Postpone

PAUSE = 2.0
PARTS = text("SELECT id, kind, state, result, error FROM job WHERE id = ANY (CAST(:ids AS uuid[]))").columns(
    result=JSONB
)
GOING_ON = ("queued", "running", "cancelling")


async def results(
    session: AsyncSession, parts: Sequence[uuid.UUID], pause: float = PAUSE
) -> list[Any] | Postpone | Dead:
    """The results of `parts` in their order, once all have succeeded; else what the waiting job is to return.

    While some go on it looks again every `pause` seconds, which uses up no attempt; its own deadline is how
    long it waits. When one has failed, was cancelled or has expired there is nothing to wait for: Dead, with
    the first one's reason. After a replay of that part, a replay of the waiting job goes on.
    """
    found = {row.id: row for row in await session.execute(PARTS, {"ids": list(parts)})}
    if absent := [id_ for id_ in parts if id_ not in found]:
        return Dead(f"part {absent[0]} is not there")  # JOB_KEEP_DAYS ago, perhaps
    for row in found.values():
        if row.state not in (*GOING_ON, "succeeded"):
            return Dead(f"part {row.kind} {row.id} {row.state}: {row.error}")
    open_ = sum(row.state in GOING_ON for row in found.values())
    if open_:
        return Postpone(f"waits for {open_} of {len(found)} parts", pause)
    return [found[id_].result for id_ in parts]

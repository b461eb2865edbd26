"""Jobs that have failed, among the dead letters: `replay` starts them again, under the same id."""

from __future__ import annotations

import uuid

from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_manage
from app.core.dead_letter_table import TableDeadLetters
from app.core.dead_letters import Letter
from app.core.job_upkeep import SOURCE


def dead_letters() -> TableDeadLetters:
    """The failed jobs of all kinds; the kind is the type of a letter's event."""
    return TableDeadLetters(SOURCE, resend)


async def resend(session: AsyncSession, letter: Letter) -> None:
    """Start the job of a letter again. Raises ValueError when it is no longer there or has not failed."""
    if not await job_manage.reopen(session, uuid.UUID(letter.properties["message_id"])):
        raise ValueError("there is no failed job of that id any more")

"""The inbox: a message's effect and the note that it is done commit together, so a repeat changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import CursorResult, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.envelope import Message
from app.core.outcomes import Done, Outcome, Postpone, WorkerError

T = TypeVar("T", bound=BaseModel)
Handler = Callable[[Message[T], AsyncSession], Awaitable[Outcome | None]]
Process = Callable[[Message[Any], float], Awaitable[Outcome]]

LOCK_NOT_AVAILABLE = "55P03"

# One statement and one round trip. The limits hold for this transaction only:
# - a worker that is paused or cut off inside its transaction would hold the row, and so the message, for as
#   long as its connection lives; the server ends such a session once the handler's deadline is well over;
# - a delivery that meets the row of one still at work gives up soon instead of blocking a slot.
CLAIM = text(
    """
    INSERT INTO inbox_message (consumer, message_id)
    SELECT :consumer, :message_id
    WHERE set_config('idle_in_transaction_session_timeout', :idle, true) IS NOT NULL
      AND set_config('lock_timeout', :patience, true) IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING 1
    """
)
LOCK_PATIENCE = "2000ms"
# Our own deadline comes first: it knows whether the handler or the database was slow.
IDLE_MARGIN = 5.0

PRUNE = text(
    """
    DELETE FROM inbox_message WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM inbox_message WHERE received_at < now() - CAST(:keep AS interval)
        LIMIT :batch FOR UPDATE SKIP LOCKED))
    """
)


class Undo(WorkerError):
    """Carries an outcome out of the session block, so that the session rolls back."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome


def transactional(handle: Handler[T]) -> Process:
    """Run `handle` in one transaction with the message's inbox row.

    A message that is done already is skipped. An outcome other than Done rolls everything back.
    """

    async def process(message: Message[Any], timeout: float) -> Outcome:
        try:
            async with get_session() as session:
                if not await claim(session, message, timeout):
                    return Done(repeated=True)
                outcome = await handle(message, session) or Done()
                if not isinstance(outcome, Done):
                    raise Undo(outcome)
                return outcome
        except Undo as undo:
            return undo.outcome

    return process


async def claim(session: AsyncSession, message: Message[Any], timeout: float) -> bool:
    """Note the message as done in this transaction. False: an earlier delivery has committed it.

    Raises Undo with Postpone when another delivery is at work on it right now.
    """
    values = {
        "consumer": message.consumer,
        "message_id": message.message_id,
        "idle": f"{int((timeout + IDLE_MARGIN) * 1000)}ms",
        "patience": LOCK_PATIENCE,
    }
    try:
        return (await session.execute(CLAIM, values)).first() is not None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise Undo(Postpone("another delivery of this message is at work", 2.0)) from error
        raise


async def prune(keep: timedelta, batch: int = 1000) -> int:
    """Delete up to `batch` rows that are older than `keep`; the number deleted.

    `keep` must be longer than any redelivery can be late: the outbox's retention, or a replay by hand.
    """
    async with get_session() as session:
        result = await session.execute(PRUNE, {"keep": keep, "batch": batch})
        return result.rowcount if isinstance(result, CursorResult) else 0

"""The work of the bare loop and the peers where a database takes part: our consumer's, written out."""

from __future__ import annotations

from sqlalchemy import text

from app.core.database import get_session
from app.services.orders import OrderService
from benchmarks.work import CONSUMER

# The statement of `app.core.inbox`, conditions included: everyone pays for the same.
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
LIMITS = {"consumer": CONSUMER, "idle": "60000ms", "patience": "2000ms"}


async def write(message_id: str, order_id: int) -> None:
    """One service write and its inbox row in one transaction; a repeat does nothing."""
    async with get_session() as session:
        if (await session.execute(CLAIM, {**LIMITS, "message_id": message_id})).first() is not None:
            await OrderService(session).process(order_id)

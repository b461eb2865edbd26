"""The work that all contestants do, so that only the way to it differs."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import text

from app.core.database import get_session
from app.services.orders import OrderService

CONSUMER = "bench"
TOPIC = "bench.work"
TYPE = "bench.work.v1"


class Work(BaseModel):
    """Payload of a message. `at` is when it was published, on the clock of `time.monotonic`."""

    order_id: int
    at: float = 0.0


# What `app.core.inbox` sends, written out: the bare loop and the peers pay for the same statement.
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

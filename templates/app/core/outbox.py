"""The outbox: send a message by writing it in the transaction that it tells about.

    async with get_session() as session:
        payment = await PaymentService(session).capture(order_id)
        await enqueue(session, "shop.payment.captured.v1", PaymentCaptured(payment_id=payment.id))

Both are committed or neither is; the relay (`app.workers.outbox_relay`) sends what is committed.
"""

from __future__ import annotations

import uuid
import zlib

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.envelope import build, current_traceparent, topic_of
from app.core.worker_settings import worker_settings

LANES = 16
CHANNEL = "outbox_message"

# One round trip: the row, and the wake-up that PostgreSQL sends when the transaction commits.
INSERT = """
    WITH row AS (
        INSERT INTO outbox_message (lane, topic, key, message_id, body)
        SELECT :lane, :topic, CAST(:key AS varchar), CAST(:message_id AS uuid), :body {condition}
        RETURNING 1)
    SELECT pg_notify(:channel, '') FROM row
"""
PLAIN = text(INSERT.format(condition=""))
# Two transactions with one key: the second waits for the first to commit before it gets its number, so that
# numbers follow the order of the commits.
IN_ORDER = text(
    INSERT.format(condition="WHERE EXISTS (SELECT FROM pg_advisory_xact_lock(hashtextextended(:lock, 0)))")
)


async def enqueue(
    session: AsyncSession,
    type_: str,
    data: BaseModel,
    *,
    key: str | None = None,
    topic: str | None = None,
    message_id: uuid.UUID | None = None,
) -> uuid.UUID:
    """Send `data` as a message of `type_` when the session's transaction commits; the message's id.

    Messages with one `key` (an order's id, say) are sent in the order of their commits; transactions that
    use the same key then wait for each other. `topic` is the type's name unless given. Pass a
    `message_id` of your own when the same event may be enqueued twice and must be handled once.

    Raises ValueError for a type without a version or a message that is too large.
    """
    settings = worker_settings()
    id_ = message_id or uuid.uuid4()
    body = build(
        type_,
        data,
        source=settings.outbox_source,
        id_=str(id_),
        subject=key,
        traceparent=current_traceparent.get(),
    )
    if len(body) > settings.worker_max_message_bytes:
        limit = settings.worker_max_message_bytes
        raise ValueError(
            f"message of {len(body)} bytes, at most {limit}: send an id and let the consumer read"
        )
    values = {
        "lane": lane_of(key or str(id_)),
        "topic": topic or topic_of(type_),
        "key": key,
        "message_id": id_,
        "body": body.decode(),
        "channel": CHANNEL,
    }
    if key is None:
        await session.execute(PLAIN, values)
    else:
        await session.execute(IN_ORDER, {**values, "lock": f"outbox {key}"})
    return id_


def lane_of(key: str) -> int:
    """The lane of a key: the same in every process, which `hash` is not."""
    return zlib.crc32(key.encode()) % LANES

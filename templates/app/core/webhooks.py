"""Webhooks to the outside. Each delivery is a job: it is leased, retried, listed and replayed like one.

async with get_session() as session:
    await OrderService(session).pay(order_id)
    await announce(session, owner=user.id, type="order.paid", data={"order_id": order_id})
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.failures import describe
from app.core.job import JobContext, job, submit
from app.core.job_events import emit
from app.core.outcomes import PermanentError, TransientError
from app.core.webhook_settings import webhook_settings
from app.core.webhook_sign import signed
from app.core.webhook_target import RefusedTargetError, Reply, post

KIND = "webhook.deliver.v1"
TRIED, DISABLED = "tried", "webhook_endpoint.disabled"
GONE = 410
# Seconds before the next try: for a receiver that is restarted, redeployed, down for a night, for days.
SCHEDULE = (5, 60, 300, 1800, 7200, 18_000, 36_000, 36_000, 86_400, 86_400)
LONGEST_PAUSE = 86_400.0
logger = logging.getLogger(__name__)

OF_OWNER = text("SELECT id FROM webhook_endpoint WHERE owner = :owner AND disabled_at IS NULL ORDER BY id")
FIND = text(
    """
    SELECT url, disabled_at,
           CASE WHEN rotated_at > now() - CAST(:overlap AS interval) THEN secrets
                ELSE secrets[1:1] END AS secrets
    FROM webhook_endpoint WHERE id = :id
    """
)
TOOK = text("UPDATE webhook_endpoint SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL")
FAILED = text(
    """
    UPDATE webhook_endpoint
    SET failing_since = coalesce(failing_since, now()),
        disabled_at = CASE WHEN :gone OR failing_since < now() - CAST(:patience AS interval) THEN now() END,
        last_error = :reason
    WHERE id = :id AND disabled_at IS NULL
    RETURNING owner, url, disabled_at
    """
)


class Delivery(BaseModel):
    """Payload of `webhook.deliver.v1`. What is sent is the same on each try, and in each replay."""

    endpoint_id: uuid.UUID
    message_id: str
    type: str
    body: str


async def announce(session: AsyncSession, *, owner: str, type: str, data: Mapping[str, Any]) -> int:  # noqa: A002  # the standard's name
    """Tell the owner's endpoints when the session's transaction commits; how many there are."""
    body = json.dumps({"type": type, "timestamp": datetime.now(UTC).isoformat(), "data": data})
    message_id = f"msg_{uuid.uuid4().hex}"
    endpoints = (await session.execute(OF_OWNER, {"owner": owner})).scalars().all()
    for endpoint in endpoints:
        delivery = Delivery(endpoint_id=endpoint, message_id=message_id, type=type, body=body)
        await submit(session, deliver, delivery, owner=owner)
    return len(endpoints)


async def send(context: JobContext[Delivery]) -> Reply:
    """Try to deliver; what came of it is an event of the job, `tried`.

    Raises TransientError for the next try, PermanentError when there is to be none.
    """
    delivery, settings = context.data, webhook_settings()
    overlap = timedelta(hours=settings.webhook_rotation_hours)
    async with get_session() as session:
        endpoint = (
            await session.execute(FIND, {"id": delivery.endpoint_id, "overlap": overlap})
        ).one_or_none()
    if endpoint is None or endpoint.disabled_at is not None:
        raise PermanentError("the endpoint is disabled or was deleted")
    reply, problem = await attempt(context, endpoint.url, [SecretStr(secret) for secret in endpoint.secrets])
    if 200 <= reply.status < 300:
        return reply
    reason = describe(problem) if problem else f"the receiver answered {reply.status}"
    await note_failure(delivery.endpoint_id, reason, gone=reply.status == GONE)
    if reply.status == GONE or isinstance(problem, RefusedTargetError):
        raise PermanentError(reason) from problem
    raise TransientError(reason, pause(context.counted, reply.retry_after)) from problem


async def attempt(
    context: JobContext[Delivery], url: str, keys: list[SecretStr]
) -> tuple[Reply, Exception | None]:
    """Post once, and note what came of it: an answer, or status 0 and why there was none."""
    settings, body = webhook_settings(), context.data.body.encode()
    headers = signed(context.data.message_id, body, keys, datetime.now(UTC))
    began, problem = time.monotonic(), None
    try:
        reply = await post(
            url,
            body,
            {**headers, "Content-Type": "application/json"},
            timeout=settings.webhook_timeout_seconds,
            allowed=settings.webhook_allowed_networks,
        )
    except Exception as error:  # whatever it is, it is not delivered
        reply, problem = Reply(0, None), error
    seconds = round(time.monotonic() - began, 3)
    said = {"status": reply.status or None, "error": problem and describe(problem), "seconds": seconds}
    emit(context, TRIED, said)
    return reply, problem


async def note_failure(endpoint_id: uuid.UUID, reason: str, *, gone: bool) -> None:
    """Note that an endpoint takes nothing. When that is for good, disable it: its owner's other endpoints are
    told, and the log.
    """
    patience = timedelta(days=webhook_settings().webhook_disable_after_days)
    values = {"id": endpoint_id, "reason": reason, "gone": gone, "patience": patience}
    async with get_session() as session:
        row = (await session.execute(FAILED, values)).one_or_none()
        if row is None or row.disabled_at is None:
            return
        told = {"endpoint_id": str(endpoint_id), "url": row.url, "reason": reason}
        await announce(session, owner=row.owner, type=DISABLED, data=told)
    logger.warning("webhook endpoint %s of %s is disabled: %s", endpoint_id, row.owner, reason)


def pause(tries: int, retry_after: float | None) -> float:
    """Seconds before the next try, and up to a fifth more; longer when the receiver asks for it."""
    planned = SCHEDULE[min(tries, len(SCHEDULE)) - 1] * random.uniform(1, 1.2)  # jitter, not a secret
    return max(planned, min(retry_after or 0.0, LONGEST_PAUSE))


@job(
    KIND,
    Delivery,
    ask=send,
    via="table",
    queue="webhooks",
    timeout=timedelta(seconds=90),
    deadline=timedelta(days=4),
    attempts=len(SCHEDULE) + 1,
)
async def deliver(context: JobContext[Delivery], session: AsyncSession) -> dict[str, int]:
    """Note that the endpoint is well."""
    await session.execute(TOOK, {"id": context.data.endpoint_id})
    return {"status": context.answer.status}

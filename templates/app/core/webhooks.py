"""Webhooks to the outside. Each delivery is a job: it is leased, retried, listed and replayed like one.

async with get_session() as session:
    await OrderService(session).pay(order_id)
    await announce(session, owner=user.id, type="order.paid", data={"order_id": order_id})
"""

from __future__ import annotations

import json
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
from app.core.webhook_sign import new_secret, signed
from app.core.webhook_target import RefusedTargetError, Reply, parse, post

GONE = 410
# Seconds before the next try: for a receiver that is restarted, redeployed, down for a night, for days.
SCHEDULE = (5, 60, 300, 1800, 7200, 18_000, 36_000, 36_000, 86_400, 86_400)
ADD = text(
    """
    INSERT INTO webhook_endpoint (id, owner, url, secrets)
    VALUES (:id, :owner, :url, CAST(:secrets AS text[]))
    """
)
OF_OWNER = text("SELECT id FROM webhook_endpoint WHERE owner = :owner AND disabled_at IS NULL ORDER BY id")
FIND = text("SELECT url, secrets, disabled_at FROM webhook_endpoint WHERE id = :id")
TOOK = text("UPDATE webhook_endpoint SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL")
FAILED = text(
    """
    UPDATE webhook_endpoint
    SET failing_since = coalesce(failing_since, now()),
        disabled_at = CASE WHEN :gone OR failing_since < now() - CAST(:patience AS interval) THEN now() END,
        last_error = :reason
    WHERE id = :id AND disabled_at IS NULL
    """
)


class Delivery(BaseModel):
    """Payload of `webhook.deliver.v1`. The body is sent as it is, the same on each try."""

    endpoint_id: uuid.UUID
    body: str


async def add_endpoint(session: AsyncSession, *, owner: str, url: str) -> tuple[uuid.UUID, SecretStr]:
    """Send the owner's events to a URL from now on; its id, and the secret that the receiver checks with.

    Raises RefusedTargetError for what is no https URL. What its name stands for is checked at each delivery.
    """
    if parse(url).scheme != "https" and not webhook_settings().webhook_allowed_networks:
        raise RefusedTargetError("an https URL is needed")
    id_, secret = uuid.uuid4(), new_secret()
    values = {"id": id_, "owner": owner, "url": url, "secrets": [secret.get_secret_value()]}
    await session.execute(ADD, values)
    return id_, secret


async def announce(session: AsyncSession, *, owner: str, type: str, data: Mapping[str, Any]) -> int:  # noqa: A002  # the standard's name
    """Tell the owner's endpoints when the session's transaction commits; how many there are."""
    body = json.dumps({"type": type, "timestamp": datetime.now(UTC).isoformat(), "data": data})
    endpoints = (await session.execute(OF_OWNER, {"owner": owner})).scalars().all()
    for endpoint in endpoints:
        await submit(session, deliver, Delivery(endpoint_id=endpoint, body=body), owner=owner)
    return len(endpoints)


async def send(context: JobContext[Delivery]) -> Reply:
    """Try to deliver; what came of it is an event of the job, `tried`.

    Raises TransientError for the next try, PermanentError when there is to be none.
    """
    endpoint_id, settings = context.data.endpoint_id, webhook_settings()
    async with get_session() as session:
        endpoint = (await session.execute(FIND, {"id": endpoint_id})).first()
    if endpoint is None or endpoint.disabled_at is not None:
        raise PermanentError("the endpoint is disabled or was deleted")
    body, keys = context.data.body.encode(), [SecretStr(secret) for secret in endpoint.secrets]
    headers = signed(f"msg_{context.id.hex}", body, keys, datetime.now(UTC))
    began, status, problem = time.monotonic(), None, None
    try:
        reply = await post(
            endpoint.url,
            body,
            {**headers, "Content-Type": "application/json"},
            timeout=settings.webhook_timeout_seconds,
            allowed=settings.webhook_allowed_networks,
        )
        status = reply.status
    except Exception as error:  # whatever it is, it is not delivered
        reply, problem = Reply(0, None), error
    emit(
        context,
        "tried",
        {
            "status": status,
            "error": problem and describe(problem),
            "seconds": round(time.monotonic() - began, 3),
        },
    )
    if 200 <= reply.status < 300:
        return reply
    reason = describe(problem) if problem else f"the receiver answered {reply.status}"
    await note_failure(endpoint_id, reason, gone=reply.status == GONE)
    if reply.status == GONE or isinstance(problem, RefusedTargetError):
        raise PermanentError(reason) from problem
    raise TransientError(reason, pause(context.attempt, reply.retry_after)) from problem


async def note_failure(endpoint_id: uuid.UUID, reason: str, *, gone: bool) -> None:
    """Note that an endpoint takes nothing, and disable it when that is for good."""
    patience = timedelta(days=webhook_settings().webhook_disable_after_days)
    async with get_session() as session:
        values = {"id": endpoint_id, "reason": reason, "gone": gone, "patience": patience}
        await session.execute(FAILED, values)


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds before the next try, and up to a fifth more."""
    planned = SCHEDULE[min(attempt, len(SCHEDULE)) - 1] * random.uniform(1, 1.2)  # jitter, not a secret
    return max(planned, retry_after or 0.0)


@job(
    "webhook.deliver.v1",
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

"""Takes the webhooks of a provider that signs them as Standard Webhooks 1.0 has it: each is checked, stored
and answered; what follows from it is done later, by a worker.

    async def store(session: AsyncSession, webhook: Webhook) -> None:
        await enqueue(
            session, "shop.payment.notice.v1", Notice(webhook.data["data"]), message_id=webhook.message_id
        )

    app.add_exception_handler(Problem, answer_problem)
    app.include_router(webhook_in_router("payments", lambda: [settings.payment_webhook_secret], store))

The provider sends to POST /webhooks/payments. Refuse nothing in `store` that a worker can refuse: there it
becomes a dead letter, here the provider sends it again and again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.worker_answers import PATIENCE, Problem, asked
from app.core.database import get_session
from app.core.deadline import within
from app.core.inbox import CLAIM, LOCK_PATIENCE
from app.core.webhook_sign import BadSignatureError, verified

LARGEST = 262_144
IDLE = "15s"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook whose signature is right. `id` is the same each time the provider sends it."""

    provider: str
    id: str
    body: bytes
    data: Any

    @property
    def message_id(self) -> uuid.UUID:
        """The id for `enqueue`: the same for the same webhook."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"webhook {self.provider} {self.id}")


Store = Callable[[AsyncSession, Webhook], Awaitable[None]]


def webhook_in_router(
    provider: str, keys: Callable[[], Sequence[SecretStr]], store: Store, *, largest: int = LARGEST
) -> APIRouter:
    """The route. `keys` gives the provider's secrets: two while one takes the place of the other. `store`
    gets each webhook once, in the transaction that notes its id; `largest` is in bytes.
    """
    router = APIRouter(prefix="/webhooks", tags=["webhooks"])

    @router.post(f"/{provider}", status_code=204, max_body_size=largest)
    async def receive(request: Request) -> Response:
        """Take a webhook. One that was taken before is answered the same way, and nothing is done."""
        # The bytes as they came: JSON that was read and written again has another signature.
        try:
            body = await within(PATIENCE, request.body())
        except TimeoutError as error:
            raise Problem(408, "the body did not come in time") from error
        try:
            id_ = verified(request.headers, body, keys(), datetime.now(UTC))
        except BadSignatureError as error:
            raise Problem(401, str(error)) from error
        await asked(take(Webhook(provider, id_, body, parsed(body)), store))
        return Response(status_code=204)

    return router


async def take(webhook: Webhook, store: Store) -> None:
    """Store a webhook, unless that was done before. Of several at once the others wait for the first."""
    values = {
        "consumer": f"webhooks {webhook.provider}"[:200],
        "message_id": webhook.id,
        "idle": IDLE,
        "patience": LOCK_PATIENCE,
    }
    async with get_session() as session:
        if (await session.execute(CLAIM, values)).first() is not None:
            await store(session, webhook)


def parsed(body: bytes) -> Any:
    """The JSON. Raises Problem 400."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is no JSON") from error

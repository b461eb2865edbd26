"""Webhooks of a provider: only those that it has signed, each stored once and answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from standardwebhooks import Webhook as Reference

from app.api.webhook_in import Webhook, webhook_in_router
from app.api.worker_answers import Problem, answer_problem
from app.core.database import session_factory
from app.core.outbox import enqueue
from app.core.webhook_sign import new_secret
from support.job_scene import JobScene
from support.ledger import Ledger

KEYS = [new_secret(), new_secret()]
PLACE = "/webhooks/payments"
# As no writer of JSON of ours would write it.
BODY = '{ "type":"payment.captured",\n "data": {"order_id": 7, "name": "Zo\u00eb \\u00e9"} }'


class Notice(BaseModel):
    """What the worker gets."""

    order_id: int


async def store(session: AsyncSession, webhook: Webhook) -> None:
    """What a project writes."""
    notice = Notice(order_id=webhook.data["data"]["order_id"])
    await enqueue(session, "shop.payment.notice.v1", notice, message_id=webhook.message_id)
    if webhook.data.get("bug"):
        raise RuntimeError("a bug")


def client_of() -> httpx2.AsyncClient:
    app = FastAPI()
    app.add_exception_handler(Problem, answer_problem)
    app.include_router(webhook_in_router("payments", lambda: KEYS, store, largest=10_000))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://shop")


@pytest.fixture
async def api(jobs: JobScene) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of() as client:
        yield client


def sign(id_: str, body: str, *, key: int = 0, ago: float = 0) -> dict[str, str]:
    """The headers that a provider sends."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    signature = Reference(KEYS[key].get_secret_value()).sign(id_, at, body)
    return {
        "Webhook-Id": id_,
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": signature,
    }


async def post(api: httpx2.AsyncClient, id_: str, body: str = BODY, **how: Any) -> httpx2.Response:
    return await api.post(PLACE, content=body.encode(), headers=sign(id_, body, **how))


async def deliver(api: httpx2.AsyncClient, id_: str, body: str, key: int) -> int:
    """Post as a provider does, again while the shop is too busy; the last answer."""
    while (status := (await post(api, id_, body, key=key)).status_code) == 503:
        pass
    return status


async def stored(jobs: JobScene) -> list[int]:
    """The orders of which a worker will hear."""
    rows = await jobs.sql("SELECT body FROM outbox_message ORDER BY seq")
    return [json.loads(row["body"])["data"]["order_id"] for row in rows]


async def test_what_is_signed_is_stored_once(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    # When the provider sends each webhook several times, also at once, with its old key and its new one
    orders = list(range(8))
    bodies = [BODY.replace("7", str(order)) for order in orders]
    answers = await asyncio.gather(
        *(deliver(api, f"evt.{at}", body, at % 2) for at, body in enumerate(bodies) for _ in range(10))
    )
    # Then all is answered well, and a worker will do each of them once
    assert set(answers) == {204}
    assert (await post(api, "evt.0", bodies[0], ago=200)).status_code == 204
    Ledger.of(
        "webhooks in: each sent ten times at once",
        attempted=orders,
        accepted=orders,
        effects=await stored(jobs),
        recovered=0,
    ).assert_clean()
    # And its message has the same id whenever it is sent
    webhook = Webhook("payments", "evt.0", b"", None)
    ids = [row["message_id"] for row in await jobs.sql("SELECT message_id FROM outbox_message")]
    assert webhook.message_id in ids
    assert Webhook("mails", "evt.0", b"", None).message_id not in ids


async def test_what_is_not_signed_is_refused(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    right = sign("evt", BODY)
    for headers, body in (
        ({}, BODY),
        (right, BODY + " "),
        (right, json.dumps(json.loads(BODY))),
        (sign("evt", BODY, ago=400), BODY),
        (sign("evt", BODY, ago=-400), BODY),
        ({**right, "Webhook-Id": "evt2"}, BODY),
        ({**right, "Webhook-Signature": "garbage"}, BODY),
        ({**right, "Webhook-Signature": "v1,="}, BODY),
        ({**right, "Webhook-Timestamp": "soon"}, BODY),
    ):
        response = await api.post(PLACE, content=body.encode(), headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
    assert (await post(api, "evt", "no JSON")).status_code == 400
    assert (await post(api, "evt", "[" * 9000)).status_code == 400
    assert await stored(jobs) == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["Id", "Timestamp", "Signature"]), st.binary(max_size=60))
def test_whatever_the_headers_say_it_is_no_error_of_ours(name: str, value: bytes) -> None:
    async def answer() -> int:
        headers = [(key.encode(), text.encode()) for key, text in sign("evt", BODY).items()]
        headers = [(key, value if key.endswith(name.encode()) else text) for key, text in headers]
        async with client_of() as api:
            return (await api.post(PLACE, content=BODY.encode(), headers=headers)).status_code

    assert asyncio.run(answer()) == 401


async def test_the_body_is_bounded(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    large = json.dumps({"data": {"order_id": 1}, "more": "x" * 10_000})
    assert (await post(api, "evt", large)).status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000].encode()

    response = await api.post(PLACE, content=pieces(), headers=sign("evt", large))
    assert response.status_code == 413
    assert await stored(jobs) == []


async def test_what_was_not_stored_can_be_sent_again(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    # A bug in the project's function: nothing is left behind, and a repeat is not taken for a second one
    assert (await post(api, "evt", BODY.replace("{ ", '{ "bug": 1,'))).status_code == 500
    assert await stored(jobs) == []
    assert (await post(api, "evt")).status_code == 204
    # And the same while the database is away
    bind = session_factory.kw["bind"]
    nowhere = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    session_factory.configure(bind=nowhere)
    away = await post(api, "evt2")
    session_factory.configure(bind=bind)
    await nowhere.dispose()
    assert (away.status_code, int(away.headers["retry-after"]) >= 1) == (503, True)
    assert (await post(api, "evt2")).status_code == 204
    assert await stored(jobs) == [7, 7]

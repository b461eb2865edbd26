"""The routes of webhook endpoints: for their owners only, with a log of deliveries to replay."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.api.webhooks import webhooks_router
from app.api.worker_answers import Problem, answer_problem
from app.core import job_store, webhook_endpoints, webhooks
from app.core.database import get_session
from app.core.webhook_settings import WebhookSettings
from support.job_api import current_owner
from support.job_scene import JobScene

AT = "/webhook-endpoints"
HOOK = {"url": "https://example.com/hook?token=1"}
MALLORY = {"X-User": "mallory"}


@pytest.fixture
async def api(jobs: JobScene) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    app.add_exception_handler(Problem, answer_problem)
    app.include_router(webhooks_router(current_owner))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://shop", headers={"X-User": "ada"}
    ) as client:
        yield client


async def added(api: httpx2.AsyncClient) -> dict[str, Any]:
    response = await api.post(AT, json=HOOK)
    assert response.status_code == 201
    endpoint: dict[str, Any] = response.json()
    return endpoint


async def test_added_listed_changed_and_removed(api: httpx2.AsyncClient) -> None:
    first = await added(api)
    secret = first.pop("secret")
    assert secret.startswith("whsec_")
    assert (await api.get(AT)).json() == [first]
    assert first["url"] == HOOK["url"]
    place = f"{AT}/{first['id']}"
    rotated = (await api.post(f"{place}/rotate")).json()
    assert rotated.pop("secret") not in {secret, None}
    assert rotated["rotated_at"] is not None
    disabled = (await api.post(f"{place}/disable")).json()
    assert disabled["disabled_at"] is not None
    assert (await api.post(f"{place}/disable")).json() == disabled
    assert (await api.post(f"{place}/enable")).json() == rotated
    assert (await api.delete(place)).status_code == 204
    assert (await api.delete(place)).status_code == 404
    assert (await api.get(AT)).json() == []


async def test_endpoints_of_others_are_not_there(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    place = f"{AT}/{(await added(api))['id']}"
    async with get_session() as session:
        await webhooks.announce(session, owner="ada", type="order.paid", data={})
    ((delivery,),) = await jobs.sql("SELECT id FROM job")
    calls = [("POST", f"{place}/{verb}") for verb in ("rotate", "disable", "enable")]
    calls += [("DELETE", place), ("POST", f"{place}/deliveries/{delivery}/replay")]
    for method, path in calls:
        response = await api.request(method, path, headers=MALLORY)
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
        assert (await api.request(method, path, headers={"X-User": ""})).status_code == 401
    assert (await api.get(AT, headers=MALLORY)).json() == []
    assert (await api.get(f"{place}/deliveries", headers=MALLORY)).json() == []
    ((rotated, disabled),) = await jobs.sql("SELECT rotated_at, disabled_at FROM webhook_endpoint")
    assert (rotated, disabled) == (None, None)


REFUSED = (
    "", "x", "http://example.com/", "ftp://example.com/", "https://", "https://a:b@example.com/",
    "https://exa\x00mple.com/", "https://example.com/" + "x" * 2000, "https://example.com/\ud800",
)  # fmt: skip


async def test_urls_that_are_refused(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    for url in REFUSED:
        body, kind = json.dumps({"url": url}), {"Content-Type": "application/json"}
        response = await api.post(AT, content=body, headers=kind)
        assert response.status_code == 422, url
    assert not await jobs.sql("SELECT 1 FROM webhook_endpoint")


async def test_http_for_networks_of_our_own(api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WebhookSettings(webhook_allowed_networks=[ip_network("10.0.0.0/8")])
    monkeypatch.setattr(webhook_endpoints, "webhook_settings", lambda: settings)
    assert (await api.post(AT, json={"url": "http://internal.example/"})).status_code == 201


async def test_there_is_a_limit(api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_endpoints, "MOST", 2)
    for status in (201, 201, 409):
        assert (await api.post(AT, json=HOOK)).status_code == status
    assert (await api.post(AT, json=HOOK, headers=MALLORY)).status_code == 201


async def test_deliveries_are_shown_and_replayed(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    # Given two deliveries: one that waits for its next try, and one that has failed
    place = f"{AT}/{(await added(api))['id']}/deliveries"
    for number in range(2):
        async with get_session() as session:
            await webhooks.announce(session, owner="ada", type="order.paid", data={"n": number})
    failed, waits = [row["id"] for row in await jobs.sql("SELECT id FROM job ORDER BY created_at")]
    assert await job_store.claim(failed, "runner", timedelta(seconds=30)) is not None
    said = '{"status": 500, "error": null, "seconds": 0.1}'
    await jobs.sql(
        """INSERT INTO job_event (job_id, id, type, data)
           SELECT $1, n, 'tried', $2 FROM generate_series(1, 3) AS n""",
        failed,
        said,
    )
    await jobs.sql(
        """UPDATE job SET state = 'failed', finished_at = now(), lease_until = NULL, runner = NULL,
           error = 'no' WHERE id = $1""",
        failed,
    )
    # Then both are in the log, with what was tried
    log = (await api.get(place)).json()
    assert [one["id"] for one in log] == [str(waits), str(failed)]
    assert [one["state"] for one in log] == ["queued", "failed"]
    assert (log[0]["tries"], log[0]["next_try_at"] is None) == ([], False)
    assert [(one["status"], one["error"], one["seconds"]) for one in log[1]["tries"]] == [
        (500, None, 0.1)
    ] * 3
    assert (log[1]["error"], log[1]["next_try_at"], log[1]["type"]) == ("no", None, "order.paid")
    assert [one["id"] for one in (await api.get(place, params={"state": "failed"})).json()] == [str(failed)]
    assert len((await api.get(place, params={"limit": 1})).json()) == 1
    # And the one that has ended can be replayed, as a new delivery of the same message
    assert (await api.post(f"{place}/{waits}/replay")).status_code == 409
    assert (await api.post(f"{place}/{uuid.uuid4()}/replay")).status_code == 404
    response = await api.post(f"{place}/{failed}/replay")
    assert response.status_code == 202
    new = (await api.get(place)).json()[0]
    assert (new["id"], new["state"]) == (response.json()["id"], "queued")
    assert new["message_id"] == log[1]["message_id"] != log[0]["message_id"]
    payloads = await jobs.sql(
        "SELECT DISTINCT payload::text FROM job WHERE id = ANY ($1)", [failed, uuid.UUID(new["id"])]
    )
    assert len(payloads) == 1


def test_no_routes_without_authentication() -> None:
    nobody: Any = None
    with pytest.raises(TypeError, match="webhooks_router\\(current_owner\\)"):
        webhooks_router(nobody)

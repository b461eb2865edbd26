"""Webhooks: delivered at least once under one id, tried again on a schedule, and given up for good."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from app.core import job_attempt, webhook_endpoints, webhook_log, webhooks
from app.core.database import get_session
from app.core.job_settings import JobSettings
from app.core.job_worker import JobWorker
from app.core.webhook_endpoints import Endpoint
from app.core.webhook_settings import WebhookSettings
from app.core.webhook_target import RefusedTargetError
from app.core.worker_settings import WorkerSettings
from support.job_scene import OWNER, JobScene
from support.ledger import Ledger
from support.wait import eventually
from support.webhook_receiver import CUT, DRIP, SILENT, Receiver, receiving
from support.workers import IMPORT_PATH

SETTINGS = JobSettings(job_poll_seconds=0.2, job_flush_seconds=0.05)
HERE = ["127.0.0.0/8", "::1/128"]
BAD = ("500 No", CUT, "301 There", "302 Found", "500 No big", "429 Slowly")


@asynccontextmanager
async def delivering() -> AsyncIterator[None]:
    worker, stop = JobWorker(SETTINGS), asyncio.Event()
    task = asyncio.ensure_future(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> WebhookSettings:
    settings = WebhookSettings(
        webhook_allowed_networks=[ip_network(network) for network in HERE], webhook_timeout_seconds=60
    )
    for module in (webhooks, webhook_endpoints):
        monkeypatch.setattr(module, "webhook_settings", lambda: settings)
    monkeypatch.setattr(webhooks, "SCHEDULE", (0.1,) * 10)
    worker = WorkerSettings(worker_retry_base_seconds=0.1, worker_retry_cap_seconds=0.5)
    monkeypatch.setattr(job_attempt, "worker_settings", lambda: worker)
    return settings


async def endpoint(receiver: Receiver, owner: str = OWNER) -> tuple[Endpoint, str]:
    added, secret = await webhook_endpoints.add(owner, receiver.url)
    return added, secret.get_secret_value()


async def announce(**data: Any) -> int:
    async with get_session() as session:
        return await webhooks.announce(session, owner=OWNER, type="order.paid", data=data)


async def the_endpoint(url: str) -> Endpoint:
    (found,) = [one for one in await webhook_endpoints.endpoints(OWNER) if one.url == url]
    return found


def orders_of(receiver: Receiver) -> list[int]:
    """Which orders a receiver knows of that looks at `webhook-id`, as it should."""
    bodies = {one.id: one.body for one in receiver.got if one.taken}
    return [json.loads(body)["data"]["order_id"] for body in bodies.values()]


async def test_each_event_is_delivered_signed_and_under_one_id(
    jobs: JobScene, settings: WebhookSettings
) -> None:
    # Given a receiver that fails in several ways, and one that is somebody else's
    async with receiving(*BAD, "200 Yes big") as receiver, receiving() as stranger:
        added, secret = await endpoint(receiver)
        await endpoint(stranger, "mallory")
        async with delivering():
            for order in range(10):
                assert await announce(order_id=order, name="Zo\u00eb") == 1
            await jobs.until_state("succeeded", 10, 60)
            log = await webhook_log.deliveries(added.id, OWNER)
            tries = Counter(try_["status"] for delivery in log for try_ in delivery.tries)
            assert tries == {200: 1, 204: 9, 301: 1, 302: 1, 429: 1, 500: 2, None: 1}
            # And then one that says nothing, or next to nothing at a time
            settings.webhook_timeout_seconds = 1
            receiver.script.extend([SILENT, DRIP])
            for order in (10, 11):
                await announce(order_id=order)
            await jobs.until_state("succeeded", 12, 60)
        assert stranger.got == []
        # Then all have come, the same on each try, and the standard's own library finds them right
        bodies: dict[str, bytes] = {}
        for one in receiver.got:
            one.verify(secret)
            assert bodies.setdefault(one.id, one.body) == one.body
        assert len(bodies) == 12
        # And each try is on record
        log = await webhook_log.deliveries(added.id, OWNER)
        assert {delivery.tries[-1]["status"] for delivery in log} == {200, 204}
        errors = [try_["error"] for delivery in log[:2] for try_ in delivery.tries if try_["error"]]
        assert len(errors) >= 2
        assert all("Timeout" in error for error in errors)
        assert (await the_endpoint(receiver.url)).failing_since is None
        Ledger.of(
            "webhooks: 500, cut, redirects, silence, slow-loris, 10 MB, 429",
            attempted=range(12),
            accepted=range(12),
            effects=orders_of(receiver),
            recovered=len({one.id for one in receiver.got if not one.taken}),
        ).assert_clean()


async def test_a_worker_is_killed_while_it_delivers(jobs: JobScene) -> None:
    # Given a receiver that takes its time, and a worker in the middle of it
    quickly = {"WEBHOOK_ALLOWED_NETWORKS": json.dumps(HERE), "WEBHOOK_TIMEOUT_SECONDS": "60"}
    async with receiving(always=SILENT) as receiver:
        _, secret = await endpoint(receiver)
        for order in range(20):
            await announce(order_id=order)
        worker = await jobs.worker("webhooks", **quickly).until_ready()
        await eventually(lambda: len({one.id for one in receiver.got}) == 20, 60)
        # When it is killed, and another one comes
        worker.kill9()
        before, receiver.always = len(receiver.got), "204 Thanks"
        await jobs.worker("webhooks", **quickly).until_ready()
        await jobs.until_state("succeeded", 20, 60)
        # Then each has come again, under the id that it had before
        assert {one.id for one in receiver.got[:before]} == {one.id for one in receiver.got[before:]}
        for one in receiver.got:
            one.verify(secret)
        Ledger.of(
            "webhooks: a worker is killed while it delivers",
            attempted=range(20),
            accepted=range(20),
            effects=orders_of(receiver),
            recovered=20,
        ).assert_clean()


async def test_an_endpoint_that_is_gone_is_not_asked_again(
    jobs: JobScene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "SCHEDULE", (0.1, 3600.0))
    async with receiving("410 Gone") as receiver, receiving() as other:
        added, secret = await endpoint(receiver)
        async with delivering():
            await announce(n=1)
            await jobs.until_state("failed", 1)
            # Then what happens later goes elsewhere
            await endpoint(other)
            assert await announce(n=2) == 1
            await jobs.until_state("succeeded", 1)
            assert len(receiver.got) == 1
            gone = await the_endpoint(receiver.url)
            assert (gone.disabled_at is not None, gone.last_error) == (True, "the receiver answered 410")
            assert f"webhook endpoint {gone.id} of {OWNER} is disabled" in caplog.text
            # When it is back, the delivery is replayed by command, under its id, and the schedule begins anew
            receiver.script.append("500 No")
            await webhook_endpoints.enable(added.id, OWNER)
            await command(jobs, "webhooks", "replay", "--type", webhooks.KIND, "--all")
            await jobs.until_state("succeeded", 2)
            # And once more by hand
            (delivery,) = await webhook_log.deliveries(added.id, OWNER)
            assert delivery.state == "succeeded"
            assert await webhook_log.replay(delivery.id, added.id, "mallory") is None
            assert await webhook_log.replay(delivery.id, uuid.uuid4(), OWNER) is None
            assert await webhook_log.replay(delivery.id, added.id, OWNER) is not None
            await jobs.until_state("succeeded", 3)
        assert [one.id for one in receiver.got] == [delivery.message_id] * 4
        assert len({one.body for one in receiver.got}) == 1
        receiver.got[-1].verify(secret)
        assert len(await webhook_log.deliveries(added.id, OWNER)) == 2


async def command(jobs: JobScene, *arguments: str) -> None:
    """Run the command for dead letters as a user does."""
    path = os.pathsep.join(map(str, IMPORT_PATH))
    env = {**os.environ, **jobs.environment(), "PYTHONPATH": path, "DATABASE_URL": jobs.postgres_url}
    words = [sys.executable, "-m", "app.workers.dead_letters", *arguments]
    done = await asyncio.to_thread(
        subprocess.run,
        words,
        env=env,
        cwd=jobs.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_an_endpoint_that_fails_for_long_is_disabled_with_a_notice(
    jobs: JobScene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with receiving(always="500 No") as receiver, receiving() as other:
        added, _ = await endpoint(receiver)
        _, secret = await endpoint(other)
        await jobs.sql(
            "UPDATE webhook_endpoint SET failing_since = now() - interval '6 days' WHERE id = $1", added.id
        )
        async with delivering():
            await announce(n=1)
            await jobs.until_state("failed", 1)
            await jobs.until_state("succeeded", 2)  # the event, and the notice
        assert len(receiver.got) == 1
        disabled = await the_endpoint(receiver.url)
        assert disabled.disabled_at is not None
        assert disabled.last_error == "the receiver answered 500"
        assert f"webhook endpoint {added.id} of {OWNER} is disabled: the receiver answered 500" in caplog.text
        for one in other.got:
            one.verify(secret)
        (notice,) = [
            event
            for event in map(json.loads, (one.body for one in other.got))
            if event["type"] != "order.paid"
        ]
        assert notice["type"] == "webhook_endpoint.disabled"
        assert notice["data"] == {
            "endpoint_id": str(added.id),
            "url": receiver.url,
            "reason": "the receiver answered 500",
        }
        # And it gets no more until it is enabled
        assert await announce(n=2) == 1
        enabled = await webhook_endpoints.enable(added.id, OWNER)
        assert enabled is not None
        assert (enabled.disabled_at, enabled.failing_since, enabled.last_error) == (None, None, None)
        assert await announce(n=3) == 2


async def test_while_a_key_is_replaced_both_sign(jobs: JobScene) -> None:
    async with receiving() as receiver:
        added, old = await endpoint(receiver)
        rotated = await webhook_endpoints.rotate(added.id, OWNER)
        assert rotated is not None
        new = rotated[1].get_secret_value()
        async with delivering():
            await announce(n=1)
            await jobs.until_state("succeeded", 1)
            receiver.got[0].verify(old)
            receiver.got[0].verify(new)
            # When the time for it is over, the old one signs no more
            await jobs.sql("UPDATE webhook_endpoint SET rotated_at = now() - interval '25 hours'")
            await announce(n=2)
            await jobs.until_state("succeeded", 2)
        receiver.got[1].verify(new)
        assert " " not in receiver.got[1].headers["webhook-signature"]
        # And of three keys there are never more than two
        await webhook_endpoints.rotate(added.id, OWNER)
        ((secrets,),) = await jobs.sql("SELECT secrets FROM webhook_endpoint")
        assert len(secrets) == 2
        assert secrets[1] == new


async def test_a_private_address_is_not_sent_to(jobs: JobScene, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver:
        await endpoint(receiver)
        for module in (webhooks, webhook_endpoints):
            monkeypatch.setattr(module, "webhook_settings", WebhookSettings)
        async with delivering():
            await announce(n=1)
            await jobs.until_state("failed", 1)
        assert receiver.got == []
        with pytest.raises(RefusedTargetError):
            await endpoint(receiver)


def test_pauses() -> None:
    for tries, planned in enumerate(webhooks.SCHEDULE, start=1):
        assert planned <= webhooks.pause(tries, None) <= 1.2 * planned
    assert webhooks.pause(99, None) <= 1.2 * webhooks.SCHEDULE[-1]
    assert webhooks.pause(1, 700.0) == 700
    assert webhooks.pause(1, float("inf")) == webhooks.LONGEST_PAUSE

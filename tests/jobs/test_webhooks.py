"""Webhooks: delivered at least once under one id, tried again on a schedule, and given up for good."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import SecretStr

from app.core import job_attempt, webhooks
from app.core.database import get_session
from app.core.job_settings import JobSettings
from app.core.job_worker import JobWorker
from app.core.webhook_settings import WebhookSettings
from app.core.webhook_sign import signed
from app.core.webhook_target import RefusedTargetError
from app.core.worker_settings import WorkerSettings
from support.job_scene import OWNER, JobScene
from support.ledger import Ledger

SETTINGS = JobSettings(job_lease_seconds=3, job_poll_seconds=0.2, job_flush_seconds=0.05)


@dataclass
class Receiver:
    """Takes what it gets, unless `script` has other answers."""

    script: list[str] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
        self.got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        answer = self.script.pop(0) if self.script else "204 Thanks"
        if answer != "cut":
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def receiving(*script: str) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(script))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://localhost:{server.sockets[0].getsockname()[1]}/hook"
    yield receiver
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def delivering() -> AsyncIterator[None]:
    worker, stop = JobWorker(SETTINGS), asyncio.Event()
    task = asyncio.ensure_future(worker.run(stop))
    yield
    stop.set()
    await asyncio.wait_for(task, 30)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WebhookSettings(
        webhook_allowed_networks=[ip_network("127.0.0.0/8"), ip_network("::1/128")], webhook_timeout_seconds=1
    )
    monkeypatch.setattr(webhooks, "webhook_settings", lambda: settings)
    monkeypatch.setattr(webhooks, "SCHEDULE", (0.1,) * 10)
    worker = WorkerSettings(worker_retry_base_seconds=0.1, worker_retry_cap_seconds=0.5)
    monkeypatch.setattr(job_attempt, "worker_settings", lambda: worker)


async def endpoint(receiver: Receiver, owner: str = OWNER) -> SecretStr:
    async with get_session() as session:
        return (await webhooks.add_endpoint(session, owner=owner, url=receiver.url))[1]


async def announce(**data: Any) -> int:
    async with get_session() as session:
        return await webhooks.announce(session, owner=OWNER, type="order.paid", data=data)


async def test_each_event_is_delivered_signed_and_under_one_id(jobs: JobScene) -> None:
    # Given a receiver that fails in several ways, and one that is somebody else's
    async with receiving("500 No", "cut", "301 There", "429 Slowly") as receiver, receiving() as stranger:
        secret = await endpoint(receiver)
        await endpoint(stranger, "mallory")
        async with delivering():
            for order in range(10):
                assert await announce(order_id=order, name="Zo\u00eb") == 1
            await jobs.until_state("succeeded", 10)
        assert stranger.got == []
        # Then all have come, the same on each try, and verifiable
        bodies: dict[str, bytes] = {}
        for headers, body in receiver.got:
            id_ = headers["webhook-id"]
            assert bodies.setdefault(id_, body) == body
            at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            assert signed(id_, body, [secret], at)["webhook-signature"] == headers["webhook-signature"]
        assert (len(bodies), len(receiver.got)) == (10, 14)
        # And each try is on record
        tries = await jobs.sql("SELECT (data->>'status')::int AS s FROM job_event WHERE type = 'tried'")
        assert sorted(row["s"] or 0 for row in tries) == [0, *[204] * 10, 301, 429, 500]
        assert (await jobs.sql("SELECT failing_since FROM webhook_endpoint WHERE owner = $1", OWNER))[0][
            0
        ] is None
        ids = list(range(10))
        Ledger.of(
            "webhooks: a receiver that fails", attempted=ids, accepted=ids, effects=ids, recovered=4
        ).assert_clean()


async def test_an_endpoint_that_is_gone_is_not_asked_again(jobs: JobScene) -> None:
    async with receiving("410 Gone") as receiver:
        await endpoint(receiver)
        async with delivering():
            await announce(n=1)
            await jobs.until_state("failed", 1)
        assert await announce(n=2) == 0
        assert len(receiver.got) == 1
        # And the delivery can be replayed when it is back
        assert len(await jobs.sql("SELECT 1 FROM dead_letter WHERE source = 'job'")) == 1


async def test_an_endpoint_that_fails_for_long_is_disabled(jobs: JobScene) -> None:
    async with receiving(*["500 No"] * 3) as receiver:
        await endpoint(receiver)
        await jobs.sql("UPDATE webhook_endpoint SET failing_since = now() - interval '6 days'")
        async with delivering():
            await announce(n=1)
            await jobs.until_state("failed", 1)
        assert len(receiver.got) == 1
        (row,) = await jobs.sql("SELECT disabled_at, last_error FROM webhook_endpoint")
        assert row["disabled_at"] is not None
        assert row["last_error"] == "the receiver answered 500"


async def test_a_private_address_is_not_sent_to(jobs: JobScene, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver:
        await endpoint(receiver)
        monkeypatch.setattr(webhooks, "webhook_settings", WebhookSettings)
        async with delivering():
            await announce(n=1)
            await jobs.until_state("failed", 1)
        assert receiver.got == []
        with pytest.raises(RefusedTargetError):
            await endpoint(receiver)

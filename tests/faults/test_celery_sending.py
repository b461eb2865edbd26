"""Mail through the template's task; sending that may get lost: straight after the commit, and by beat."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.beat import Scheduler
from pydantic import SecretStr

from app.core import celery_after_commit, celery_broker
from app.core.broker import BrokerDownError
from app.core.celery_after_commit import Pending, send_after_commit
from app.core.celery_app import build, celery_app
from app.core.celery_settings import CelerySettings
from app.core.outbox import enqueue
from app.tasks import daily_digest
from app.tasks.invoice_email import InvoiceEmail
from support.celery_scene import CeleryScene
from support.producer import Sessions, Work, sessions_for
from support.wait import eventually
from support.world import running_world
from world.client import fail

TYPE = "shop.work.v1"


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    """Sessions of a producer."""
    async with sessions_for(postgres_url) as sessions:
        yield sessions


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The orders about which a message was sent."""
    found: list[int] = []

    async def send(message: Pending) -> None:
        await asyncio.sleep(0)
        found.append(int(message.body.partition('"order_id":')[2].partition(",")[0]))

    monkeypatch.setattr(celery_after_commit, "send", send)
    return found


async def settled() -> None:
    """Wait until all that is being sent is sent."""
    await eventually(lambda: not celery_after_commit.sending, 60)


async def test_what_is_committed_is_sent_and_nothing_else(sessions: Sessions, sent: list[int]) -> None:
    async with sessions() as session:
        # Given messages before, in and after savepoints, of which one is rolled back
        send_after_commit(session, TYPE, Work(order_id=1))
        async with session.begin_nested():
            send_after_commit(session, TYPE, Work(order_id=2))
        savepoint = await session.begin_nested()
        send_after_commit(session, TYPE, Work(order_id=3))
        async with session.begin_nested():
            send_after_commit(session, TYPE, Work(order_id=4))
        await savepoint.rollback()
        send_after_commit(session, TYPE, Work(order_id=5))
        await settled()
        assert sent == []
        # When the whole is committed
        await session.commit()
        await settled()
        assert sorted(sent) == [1, 2, 5]
        # And then something is rolled back, or just left
        async with session.begin_nested():
            send_after_commit(session, TYPE, Work(order_id=6))
        await session.rollback()
        await session.begin()
        send_after_commit(session, TYPE, Work(order_id=7))
        await session.close()
        await session.commit()
    # Then that is not sent
    await settled()
    assert sorted(sent) == [1, 2, 5]


async def test_a_broker_that_is_away_harms_nobody(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a broker that takes long to say that it is away
    over = asyncio.Event()

    async def wait(_: object) -> None:
        await over.wait()
        raise BrokerDownError("away")

    monkeypatch.setattr(celery_after_commit, "in_thread", wait)
    # When more is sent than may wait for it
    async with sessions.begin() as session:
        for order in range(120):
            send_after_commit(session, TYPE, Work(order_id=order))
    over.set()
    await settled()
    # Then the commit has succeeded, and the log tells of each message
    assert caplog.text.count("is lost: too many wait") == 20
    assert caplog.text.count("is lost: away") == 100


async def test_a_silent_broker_holds_no_thread_that_others_need(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker that is silent, and more who send than asyncio has threads
    over, began = threading.Event(), threading.Semaphore(0)

    def put(*_: object, **__: object) -> None:
        began.release()
        over.wait(120)

    monkeypatch.setattr(celery_broker, "put", put)
    sending = [asyncio.ensure_future(celery_broker.send("t", [], task_id=str(n))) for n in range(40)]
    await eventually(lambda: began.acquire(blocking=False), 60)
    try:
        # Then names are resolved as ever, without which no connection is made
        async with asyncio.timeout(60):
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    finally:
        over.set()
        await asyncio.gather(*sending, return_exceptions=True)


async def test_mail_by_outbox_by_two_beats_and_after_a_commit(
    postgres_url: str, redis_url: str, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CeleryScene(postgres_url, redis_url) as scene:
        scene.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "20", "CELERY_SOFT_TIME_LIMIT_SECONDS": "22"}
        scene.limits |= {"CELERY_TIME_LIMIT_SECONDS": "24", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "50"}
        monkeypatch.setattr(celery_broker, "celery_app", scene.app)
        scene.app.conf.beat_schedule = celery_app.conf.beat_schedule
        async with running_world() as world:
            (order,) = await scene.orders(1)
            # Given two beats that were started yesterday
            for _ in range(2):
                tick(Scheduler(app=scene.app))
            # Then both have sent the tick of this morning
            assert scene.waiting() == 2
            # And a provider that refuses at first
            await world.script("mail", fail(503, 2))
            # When there are a worker and a relay, and mail is due by the outbox, and after a commit
            scene.settings |= world.environment()
            scene.celery()
            scene.worker("celery_relay")
            async with sessions.begin() as session:
                await enqueue(session, "mail.invoice.v1", InvoiceEmail(user_id=1, email_type="invoice"))
                send_after_commit(session, "mail.invoice.v1", InvoiceEmail(user_id=1, email_type="hint"))
                send_after_commit(session, TYPE, Work(order_id=order))
            scene.accepted.append(order)

            # Then each is mailed once, one digest too, each attempt under the same key
            async def mailed() -> list[Any]:
                rows = await scene.sql("SELECT email_type FROM email_log ORDER BY email_type")
                return [row["email_type"] for row in rows] if len(rows) == 3 else []

            assert await eventually(mailed, 60) == ["digest", "hint", "invoice"]
            await scene.until_processed([order])

            async def both_relayed() -> bool:
                return len(await scene.sql("SELECT FROM outbox_message WHERE sent_at IS NOT NULL")) == 3

            await eventually(both_relayed, 60, "both ticks have led to a message")
            await eventually(lambda: scene.left() == 0, 60)
            assert len(await world.effects("mail")) == 3
            assert len(await world.calls("mail")) == 5
            assert len({call.key for call in await world.calls("mail")}) == 3
        (await scene.ledger("Celery: sent after the commit, beside two beats")).assert_clean()


def test_applications_with_prefixes_of_their_own_may_share_a_redis(redis_url: str) -> None:
    # Given two applications
    apps = {}
    for prefix in ("shop:", "staging:"):
        settings = CelerySettings(celery_broker_url=SecretStr(redis_url), celery_key_prefix=prefix)
        apps[prefix] = build(settings)
    # When one sends a task
    apps["shop:"].send_task("shop.work", ["{}"], ignore_result=True)
    # Then the other does not have it
    sizes = {}
    for prefix, app in apps.items():
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            sizes[prefix] = channel._size("tasks")
        app.close()
    assert sizes == {"shop:": 1, "staging:": 0}


def tick(beat: Scheduler) -> None:
    """Let a beat do what is due since yesterday. A tick that comes too late is dropped."""
    entry: Any = beat.schedule[daily_digest.NAME]
    assert entry.options["expires"] > 0
    entry.last_run_at = datetime.now(UTC) - timedelta(days=1, minutes=1)
    beat.tick()
    beat.close()

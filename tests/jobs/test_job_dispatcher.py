"""Dispatchers: what is due is sent once, and what got lost is sent again."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from app.core import job_store
from app.core.broker import Loss
from app.core.database import get_session
from app.core.job import JobKind, submit
from app.core.job_dispatcher import JobDispatcher
from app.core.job_settings import JobSettings
from support.job_scene import FAULTY_KIND, OWNER, FakeCarrier, JobScene, Work, elsewhere
from support.wait import eventually, stays

SETTINGS = JobSettings(
    job_lease_seconds=1, job_poll_seconds=0.2, job_overtaken_seconds=1, job_lonely_seconds=60, job_batch=40
)
LEASE = timedelta(seconds=60)


@asynccontextmanager
async def running(carrier: FakeCarrier, settings: JobSettings = SETTINGS) -> AsyncIterator[JobDispatcher]:
    """A dispatcher in this process, stopped at the end."""
    dispatcher, stop = JobDispatcher(carrier, settings), asyncio.Event()
    task = asyncio.ensure_future(dispatcher.run(stop))
    try:
        yield dispatcher
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
        assert carrier.closed


async def until_sent(carrier: FakeCarrier, ids: list[uuid.UUID]) -> None:
    await eventually(lambda: set(ids) <= set(carrier.sent), 60, f"{len(ids)} jobs are sent")


async def start(id_: uuid.UUID) -> None:
    """What a worker does when it gets the message."""
    assert await job_store.claim(id_, "worker", LEASE) is not None


async def test_two_dispatchers_send_each_job_once_and_at_once(jobs: JobScene) -> None:
    first, second = FakeCarrier(), FakeCarrier()
    slow = SETTINGS.model_copy(update={"job_poll_seconds": 60.0})
    async with running(first, slow) as one, running(second, slow) as two:
        await eventually(lambda: not one.problems() and not two.problems(), 60)
        # Given dispatchers that would poll once in a minute: it is the commit that wakes them
        ids = await jobs.submit_many(100)
        await eventually(lambda: len(first.sent) + len(second.sent) >= 100, 30)
    assert Counter(first.sent + second.sent) == dict.fromkeys(ids, 1)
    rows = await jobs.sql("SELECT sends, sent_at FROM job")
    assert {row["sends"] for row in rows} == {1}


async def test_priority_pauses_and_other_transports(jobs: JobScene) -> None:
    # Given jobs of several priorities, one that is not due, and one that workers fetch themselves
    table: JobKind[Work] = JobKind("test.table.v1", Work, elsewhere, via="table")
    await jobs.orders(1)
    sent = {}
    async with get_session() as session:
        for priority in (0, 9, 5):
            job = await submit(session, FAULTY_KIND, Work(order_id=1), owner=OWNER, priority=priority)
            sent[priority] = job.id
        later = timedelta(seconds=2)
        waits = await submit(session, FAULTY_KIND, Work(order_id=1), owner=OWNER, not_before=later)
        await submit(session, table, Work(order_id=1), owner=OWNER)
    carrier = FakeCarrier()
    async with running(carrier):
        await until_sent(carrier, [waits.id])
        # Then the others have come first, in their order
        assert carrier.sent == [sent[9], sent[5], sent[0], waits.id]


async def test_a_broker_that_is_away(jobs: JobScene) -> None:
    carrier = FakeCarrier()
    carrier.down = True
    async with running(carrier) as dispatcher:
        ids = await jobs.submit_many(50)
        await eventually(lambda: "away" in " ".join(dispatcher.problems()), 60)

        async def all_wait() -> bool:
            return len(await jobs.sql("SELECT 1 FROM job WHERE sent_at IS NULL AND sends = 0")) == 50

        await eventually(all_wait, 60, "what could not be sent waits")
        carrier.down = False
        await until_sent(carrier, ids)
        assert Counter(carrier.sent) == dict.fromkeys(ids, 1)
        await eventually(lambda: not dispatcher.problems(), 60)


async def test_a_queue_that_is_missing_holds_up_no_other_job(jobs: JobScene) -> None:
    wrong: JobKind[Work] = JobKind("test.wrong.v1", Work, elsewhere, queue="missing")
    (order,) = await jobs.orders(1)
    carrier = FakeCarrier()
    bad = await jobs.submit(order, kind=wrong)
    async with running(carrier):
        good = await jobs.submit(order)
        await until_sent(carrier, [good])

        async def put_off() -> bool:
            row = await jobs.row(bad)
            return bool(
                row["sent_at"] is None and row["next_try_at"] > row["created_at"] + timedelta(seconds=9)
            )

        await eventually(put_off, 60)


async def test_an_empty_broker_is_noticed(jobs: JobScene) -> None:
    carrier = FakeCarrier()
    async with running(carrier, SETTINGS.model_copy(update={"job_overtaken_seconds": 60.0})):
        ids = await jobs.submit_many(5)
        await until_sent(carrier, ids)
        await start(ids[0])
        # When it comes back empty
        carrier.sent.clear()
        carrier.lost = Loss.ALL
        # Then what waits is sent again, and what runs is not
        await until_sent(carrier, ids[1:])
        assert Counter(carrier.sent) == dict.fromkeys(ids[1:], 1)
        assert carrier.lost is Loss.NONE


async def test_a_message_that_was_overtaken_is_sent_again(jobs: JobScene) -> None:
    carrier = FakeCarrier()
    async with running(carrier):
        # Given a message that got lost, one that waits behind it, and a long silence
        lost, _ = await jobs.submit_many(2)
        await eventually(lambda: len(carrier.sent) == 2, 60)
        await stays(lambda: len(carrier.sent) == 2, 3)
        # When a job is started that was sent later
        (later,) = await jobs.submit_many(1)
        await eventually(lambda: later in carrier.sent, 60)
        await start(later)
        # Then it is sent again, and with growing patience again, until it is started
        await eventually(lambda: carrier.sent.count(lost) >= 2, 60)
        await start(lost)
        assert (await jobs.row(lost))["sends"] >= 2


async def test_where_nothing_is_started_some_are_sent_again(jobs: JobScene) -> None:
    carrier = FakeCarrier()
    settings = SETTINGS.model_copy(update={"job_overtaken_seconds": 60.0, "job_lonely_seconds": 1.0})
    async with running(carrier, settings):
        # Given a worker that was at work when the message got lost, and then hears of nothing any more
        done, lost = await jobs.submit_many(2)
        await until_sent(carrier, [done, lost])
        await start(done)
        await eventually(lambda: carrier.sent.count(lost) >= 3, 60)
        assert (await jobs.row(lost))["sends"] >= 3
        assert carrier.sent.count(done) == 1


async def test_jobs_of_dead_workers_are_sent_again(jobs: JobScene) -> None:
    carrier = FakeCarrier()
    async with running(carrier):
        (id_,) = await jobs.submit_many(1)
        await until_sent(carrier, [id_])
        assert await job_store.claim(id_, "worker", timedelta(seconds=0.5)) is not None
        await eventually(lambda: carrier.sent.count(id_) == 2, 60)
        row = await jobs.row(id_)
        assert (row["state"], row["attempt"], row["error"]) == (
            "queued",
            1,
            "its worker was not heard of any more",
        )

"""The worker of the table, in this process: many at once, fair to all, within limits, and no slot wasted."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_attempt, job_claim, job_manage, job_store, job_upkeep
from app.core.database import get_session
from app.core.job import BusyError, JobContext, JobKind, job, submit
from app.core.job_events import Record, emit, read, write
from app.core.job_settings import JobSettings
from app.core.job_worker import JobWorker
from app.core.llm_call import call
from app.core.llm_http import HttpProvider
from app.core.llm_provider import Answer, Message, Prompt
from app.core.llm_settings import LlmSettings
from app.core.llm_usage import usage_of
from app.core.outcomes import TransientError
from app.core.worker_settings import WorkerSettings
from app.repositories.orders import OrderRepository
from support.job_scene import OWNER, JobScene, Work
from support.llm_server import LlmServer, running_llm
from support.wait import eventually, stays

# No lease is to be over here, even when the machine stands still for a while.
SETTINGS = JobSettings(
    job_lease_seconds=60, job_poll_seconds=0.3, job_concurrency=300, job_per_owner=300, job_flush_seconds=0.1
)
DRAIN = WorkerSettings(worker_drain_seconds=0.2, worker_retry_base_seconds=0.1, worker_retry_cap_seconds=0.5)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again soon."""
    monkeypatch.setattr(job_attempt, "worker_settings", lambda: DRAIN)


@asynccontextmanager
async def running(count: int = 1, **changes: Any) -> AsyncIterator[list[JobWorker]]:
    """Workers in this process, stopped at the end."""
    workers = [JobWorker(SETTINGS.model_copy(update=changes), DRAIN) for _ in range(count)]
    stop = asyncio.Event()
    tasks = [asyncio.ensure_future(worker.run(stop)) for worker in workers]
    try:
        yield workers
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 90)


class Crowd:
    """Who is being asked, and how many at once at most."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.now: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.order: list[str] = []

    async def ask(self, context: JobContext[Work]) -> str:
        """Wait until the test says so."""
        self.order.append(context.owner)
        for who in (context.owner, "all"):
            self.now[who] += 1
            self.peaks[who] = max(self.peaks[who], self.now[who])
        try:
            await self.go_on.wait()
            if context.data.seconds:
                await asyncio.sleep(context.data.seconds)
        finally:
            self.now.subtract([context.owner, "all"])
        return "asked"


async def store(context: JobContext[Work], session: AsyncSession) -> dict[str, str]:
    """The effect."""
    await OrderRepository(session).add_event(context.data.order_id, "processed")
    return {"answer": context.answer if isinstance(context.answer, str) else context.answer.text}


def kind_of(ask: Any, **options: Any) -> JobKind[Work]:
    """A kind whose jobs ask and then store."""
    given = {"via": "table", "timeout": timedelta(seconds=30), "deadline": timedelta(minutes=10)} | options
    return job("test.ask.v1", Work, ask=ask, **given)(store)


async def submit_for(jobs: JobScene, kind: JobKind[Work], owner: str, count: int, **data: Any) -> None:
    """Submit jobs of an owner."""
    for order in await jobs.orders(count):
        async with get_session() as session:
            await submit(session, kind, Work(order_id=order, **data), owner=owner)
        jobs.accepted.append(order)


async def test_hundreds_are_asked_at_once_and_hold_no_connection(jobs: JobScene) -> None:
    crowd = Crowd()
    kind = kind_of(crowd.ask)
    await submit_for(jobs, kind, OWNER, 300)
    async with running() as (worker,):
        await eventually(lambda: crowd.now["all"] == 300, 60, "all are asked at once")
        # Nobody's transaction is open meanwhile, but for moments of the worker's own
        idle = """SELECT count(*) FROM pg_stat_activity
                  WHERE state LIKE 'idle in transaction%' AND datname = current_database()"""

        async def none_open() -> bool:
            return bool((await jobs.sql(idle))[0][0] == 0)

        await stays(lambda: not worker.problems(), 0.5)
        await eventually(none_open, 30, "no transaction is open")
        crowd.go_on.set()
        await jobs.until_state("succeeded", 300)
    assert {row["result"] for row in await jobs.sql("SELECT result FROM job")} == {'{"answer": "asked"}'}
    assert {row["attempt"] for row in await jobs.sql("SELECT attempt FROM job")} == {1}
    (await jobs.job_ledger("llm: 300 at once")).assert_clean()


async def test_owners_take_turns_and_limits_hold_for_all_workers(jobs: JobScene) -> None:
    crowd = Crowd()
    crowd.go_on.set()
    kind = kind_of(crowd.ask, queue="llm")
    # Given many jobs of one owner, and then a few of others
    await submit_for(jobs, kind, "many", 60, seconds=0.05)
    await submit_for(jobs, kind, "few", 3, seconds=0.05)
    await submit_for(jobs, kind, "one", 1, seconds=0.05)
    async with running(2, job_per_owner=4, job_limits={"llm": 6}):
        await jobs.until_state("succeeded", 64)
    # Then nobody waits for those who were first, and no limit is exceeded by two workers together
    assert crowd.order.index("one") < 6
    assert crowd.order.index("few") < 6
    assert crowd.peaks["many"] <= 4
    assert crowd.peaks["all"] <= 6
    (await jobs.job_ledger("llm: owners take turns")).assert_clean()


async def test_what_is_busy_costs_no_attempt_and_no_slot(jobs: JobScene) -> None:
    asked: Counter[int] = Counter()

    async def ask(context: JobContext[Work]) -> str:
        asked[context.data.order_id] += 1
        if asked[context.data.order_id] <= 3:
            raise BusyError("429", 0.3)
        return "asked"

    kind = kind_of(ask, attempts=1)
    patient = kind_of_busy_for_long()
    await submit_for(jobs, patient, OWNER, 1)
    await submit_for(jobs, kind, OWNER, 20)
    async with running(job_concurrency=5):
        await jobs.until_state("succeeded", 20)
        # What has to wait for long holds no slot, and does so within its deadline
        (row,) = await jobs.sql("SELECT * FROM job WHERE kind = 'test.patient.v1'")
        assert (row["state"], row["attempt"], row["excused"]) == ("queued", 1, 1)
    rows = await jobs.sql("SELECT attempt, excused FROM job WHERE kind = 'test.ask.v1'")
    assert {(row["attempt"], row["excused"]) for row in rows} == {(4, 3)}
    assert set(asked.values()) == {4}


def kind_of_busy_for_long() -> JobKind[Work]:
    """A kind whose provider asks for a minute of patience."""

    async def ask(_: JobContext[Work]) -> str:
        raise BusyError("429", 60)

    return job("test.patient.v1", Work, ask=ask, via="table", deadline=timedelta(minutes=10))(store)


async def test_an_answer_that_was_paid_for_is_not_paid_for_again(jobs: JobScene) -> None:
    async with running_llm() as llm, provided(llm) as provider:

        async def ask(context: JobContext[Work]) -> Answer:
            return await call(context, provider, Prompt("model-1", (Message("user", "Hello"),)))

        async def fail_first(context: JobContext[Work], session: AsyncSession) -> dict[str, str]:
            if context.attempt < 3:
                raise TransientError("a row is locked")
            return await store(context, session)

        kind = job("test.ask.v1", Work, ask=ask, via="table", deadline=timedelta(minutes=10))(fail_first)
        (order,) = await jobs.orders(1)
        id_ = await jobs.submit(order, kind=kind)
        async with running():
            await jobs.until_state("succeeded")
        assert len(llm.calls) == 1
        row = await jobs.row(id_)
        assert row["attempt"] == 3
        usage = await usage_of(id_, OWNER)
        assert (usage.calls, usage.input_tokens, usage.output_tokens, usage.exact) == (1, 11, 6, True)
    (await jobs.job_ledger("llm: the answer cannot be stored at first")).assert_clean()


async def test_cancelling_drops_the_call(jobs: JobScene) -> None:
    async with running_llm(script=deque(["hang"])) as llm, provided(llm) as provider:

        async def ask(context: JobContext[Work]) -> Answer:
            return await call(context, provider, Prompt("model-1", (Message("user", "Hello"),)))

        (order,) = await jobs.orders(1)
        id_ = await jobs.submit(order, kind=kind_of(ask))
        # No heartbeat in time: the worker is told
        async with running(job_poll_seconds=60.0, job_lease_seconds=180.0):
            await eventually(lambda: llm.in_flight == 1 and llm.calls[0].sent == 5, 60)
            # When its owner, and nobody else, cancels it, from whatever process
            assert await job_manage.cancel(id_, "mallory") is None
            for _ in range(2):
                info = await job_manage.cancel(id_, OWNER)
                assert info is not None
                assert info.state == "cancelling"
            # The provider would hang for ten minutes
            await eventually(lambda: llm.calls[0].dropped, 30, "the connection is dropped")
            await jobs.until_state("cancelled", deadline_s=60)
        # Then what had come, and what it cost, is on record
        rows = await jobs.sql("SELECT type, data FROM job_event WHERE job_id = $1 ORDER BY id", id_)
        assert (rows[0]["type"], rows[-1]["type"]) == ("started", "broken_off")
        assert {row["type"] for row in rows[1:-1]} == {"delta"}
        assert "".join(json.loads(row["data"])["text"] for row in rows[1:-1]) == "Once upon "
        usage = await usage_of(id_, OWNER)
        assert (usage.calls, usage.input_tokens, usage.exact) == (1, 11, False)


async def test_shutdown_hands_back_what_is_not_done(jobs: JobScene) -> None:
    crowd = Crowd()
    kind = kind_of(crowd.ask)
    await submit_for(jobs, kind, OWNER, 30)
    async with running():
        await eventually(lambda: crowd.now["all"] == 30, 60)
    rows = await jobs.sql("SELECT state, attempt, excused, error FROM job")
    assert {tuple(row) for row in rows} == {("queued", 1, 1, "handed back at shutdown")}
    # And the next worker starts at once
    crowd.go_on.set()
    async with running():
        await jobs.until_state("succeeded", 30)
    (await jobs.job_ledger("llm: shutdown in the middle of 30 calls")).assert_clean()


async def test_a_suspect_runs_beside_no_other_and_holds_up_nobody(jobs: JobScene) -> None:
    # Given jobs whose workers have died twice, older than those that have seen nothing
    crowd = Crowd()
    kind = kind_of(crowd.ask)
    await submit_for(jobs, kind, "suspects", 6)
    await submit_for(jobs, kind, "many", 2)
    await jobs.sql("UPDATE job SET lapsed = 2 WHERE owner = 'suspects'")
    await submit_for(jobs, kind, "suspects", 3)
    async with running(2, job_per_owner=6):
        # Then each of two workers has one of them, beside all others that may run
        await eventually(lambda: crowd.now["all"] == 7, 60)
        await stays(lambda: crowd.now["suspects"] == 5, 1)
        held = "SELECT count(*) FROM job WHERE lapsed = 2 AND state = 'running' GROUP BY runner"
        assert [row["count"] for row in await jobs.sql(held)] == [1, 1]
        # And one after the other gets its turn
        crowd.go_on.set()
        await jobs.until_state("succeeded", 11, deadline_s=60)


async def test_one_that_kills_its_workers_costs_its_neighbours_little(jobs: JobScene) -> None:
    # Given one among many that kills each worker that runs it, with all that the worker has in hand
    await submit_for(jobs, kind_of(Crowd().ask, attempts=6), OWNER, 31)
    ids = [row["id"] for row in await jobs.sql("SELECT id FROM job ORDER BY next_try_at")]
    poison = ids[15]
    finish = "UPDATE job SET state = 'succeeded', runner = NULL, lease_until = NULL, finished_at = now()"
    deaths = 0
    for turn in range(100):
        taken = {row.id for row in await job_claim.claim(SETTINGS, f"worker-{turn}", 50)}
        if poison in taken:
            deaths += 1
            await jobs.sql("UPDATE job SET lease_until = now() - interval '1 h' WHERE state = 'running'")
            await job_upkeep.recover(timedelta())
        else:
            await jobs.sql(f"{finish} WHERE state = 'running'")
    # Then it is set aside in the end, and the others have succeeded, after two lost attempts at most
    assert await jobs.states() == {"failed": 1, "succeeded": 30}
    assert (deaths, (await jobs.row(poison))["state"]) == (6, "failed")
    rows = await jobs.sql("SELECT attempt FROM job WHERE state = 'succeeded'")
    assert max(row["attempt"] for row in rows) == 3


async def test_what_a_job_says_is_written_in_its_order_and_fenced(jobs: JobScene) -> None:
    go_on = asyncio.Event()

    async def ask(context: JobContext[Work]) -> str:
        for number in range(500):
            emit(context, "number", {"n": number})
            if number % 100 == 0:
                await asyncio.sleep(0.05)
        await go_on.wait()
        emit(context, "late", {})
        return "asked"

    (order,) = await jobs.orders(1)
    id_ = await jobs.submit(order, kind=kind_of(ask, attempts=2))

    async def count() -> int:
        return int((await jobs.sql("SELECT count(*) FROM job_event"))[0][0])

    async with running(job_flush_seconds=0.02):

        async def written() -> bool:
            return await count() == 500

        await eventually(written, 60)
        # When the job is taken from it, as if the worker had been frozen, nothing that it says is heard
        await jobs.sql("UPDATE job SET attempt = attempt + 1, lease_until = now() + interval '1 minute'")
        go_on.set()
        await stays(written, 1)
    rows = await jobs.sql("SELECT id, data FROM job_event WHERE job_id = $1 ORDER BY id", id_)
    assert [row["data"] for row in rows] == [f'{{"n": {number}}}' for number in range(500)]
    assert [row["id"] for row in rows] == [1_000_000_001 + number for number in range(500)]
    assert await jobs.effects() == []


@asynccontextmanager
async def provided(llm: LlmServer) -> AsyncIterator[HttpProvider]:
    """What speaks to a provider."""
    provider = HttpProvider(LlmSettings(llm_base_url=llm.url))  # type: ignore[arg-type]
    yield provider
    await provider.aclose()


async def test_events_that_are_written_again_are_there_once(jobs: JobScene) -> None:
    (order,) = await jobs.orders(1)
    id_ = await jobs.submit(order)
    assert await job_store.claim(id_, "worker", timedelta(minutes=1)) is not None
    batch = [Record(id_, 1, 1_000_000_000 + number, "number", "{}") for number in range(1, 4)]
    async with get_session() as session:
        # When the answer to the first writing got lost
        await write(session, batch[:2])
    async with get_session() as session:
        await write(session, batch)
        await write(session, [Record(id_, 2, 2_000_000_001, "number", "{}")])
    page = (await read({id_: 0}))[id_]
    assert page is not None
    assert await read({id_: page.events[-1].id}) == {}
    assert [event.id for event in page.events] == [record.id for record in batch]
    # And they go with their job
    await jobs.sql("DELETE FROM job")
    assert await jobs.sql("SELECT 1 FROM job_event") == []
    assert await read({id_: 0}) == {id_: None}

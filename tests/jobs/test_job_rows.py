"""The rows of jobs: submitted once, claimed by one, taken over from the dead, final when they have ended."""

import asyncio
import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_manage, job_store, job_upkeep
from app.core.database import get_session
from app.core.job import (
    JobContext,
    JobKind,
    KeyInUseError,
    KeyReusedError,
    Submitted,
    UnstorableError,
    job,
    submit,
)
from app.core.job_letters import dead_letters
from app.core.job_runner import JobRunner
from app.core.job_settings import JobSettings
from app.core.outcomes import Dead, Outcome, Postpone, TransientError
from app.repositories.orders import OrderRepository
from support.job_scene import FAULTY_KIND, OWNER, JobScene, Work
from support.wait import eventually

LEASE = timedelta(seconds=30)
OVER = timedelta(seconds=-1)  # a lease that has lapsed when it begins
QUICK = JobSettings(job_lease_seconds=1, job_poll_seconds=0.1)


async def add(key: str | None = None, owner: str = OWNER, order_id: int = 1) -> Submitted:
    async with get_session() as session:
        return await submit(session, FAULTY_KIND, Work(order_id=order_id), owner=owner, idempotency_key=key)


async def recover() -> None:
    """As a dispatcher does; the server may have been started a moment ago."""
    await job_upkeep.recover(timedelta())


# -- submitting ------------------------------------------------------------------------------------------


async def test_nothing_is_left_of_a_transaction_that_fails(jobs: JobScene) -> None:
    async with get_session() as session:
        await submit(session, FAULTY_KIND, Work(order_id=1), owner=OWNER, idempotency_key="key")
        await session.rollback()
    assert await jobs.states() == Counter()
    assert (await add("key")).new


async def test_a_repeat_with_the_same_key_is_the_same_job(jobs: JobScene) -> None:
    first = await add("key")
    again = await add("key")
    assert (first.new, again.new) == (True, False)
    assert (again.id, again.created_at, again.deadline_at) == (first.id, first.created_at, first.deadline_at)
    # Keys are their owners' own, and no key is no repeat
    others = [await add("key", owner="bob"), await add(), await add()]
    assert len({first.id, *(job.id for job in others)}) == 4
    with pytest.raises(KeyReusedError):
        await add("key", order_id=2)


async def test_a_key_in_use_is_not_waited_for(jobs: JobScene) -> None:
    async with get_session() as session:
        await submit(session, FAULTY_KIND, Work(order_id=1), owner=OWNER, idempotency_key="key")
        with pytest.raises(KeyInUseError):
            await add("key")
    assert not (await add("key")).new


async def test_fifty_at_once_with_one_key(jobs: JobScene) -> None:
    answers = await asyncio.gather(*(add("key") for _ in range(50)), return_exceptions=True)
    told = [answer for answer in answers if isinstance(answer, Submitted)]
    assert Counter(job.new for job in told)[True] == 1
    assert all(isinstance(answer, Submitted | KeyInUseError) for answer in answers)
    assert len({job.id for job in told}) == 1
    assert await jobs.states() == {"queued": 1}


@pytest.mark.parametrize("words", ["a\x00b", "\ud800"])
async def test_what_cannot_be_stored_is_refused(jobs: JobScene, words: str) -> None:
    async with get_session() as session:
        with pytest.raises(UnstorableError, match=r"U\+0000|surrogates"):
            await submit(session, FAULTY_KIND, Work(order_id=1, do=words), owner=OWNER)
        harmless = Work(order_id=1, do="C:\\u0000")
        assert (await submit(session, FAULTY_KIND, harmless, owner=OWNER)).new


# -- claiming --------------------------------------------------------------------------------------------


async def test_one_of_eight_claimers_gets_it(jobs: JobScene) -> None:
    submitted = [(await add()).id for _ in range(10)]
    claims = (job_store.claim(id_, f"runner {n}", LEASE) for id_ in submitted for n in range(8))
    rows = [row for row in await asyncio.gather(*claims) if row is not None]
    assert Counter(row.id for row in rows) == dict.fromkeys(submitted, 1)
    assert {row.attempt for row in rows} == {1}


async def test_what_is_not_due_is_not_claimed(jobs: JobScene) -> None:
    async with get_session() as session:
        later = await submit(
            session, FAULTY_KIND, Work(order_id=1), owner=OWNER, not_before=timedelta(hours=1)
        )
    over, ended = await add(), await add()
    await jobs.sql("UPDATE job SET deadline_at = now() WHERE id = $1", over.id)
    await job_manage.cancel(ended.id, OWNER)
    for id_ in (later.id, over.id, ended.id, uuid.uuid4()):
        assert await job_store.claim(id_, "runner", LEASE) is None


# -- the dead --------------------------------------------------------------------------------------------


async def test_a_lapsed_lease_is_taken_over_and_fenced(jobs: JobScene) -> None:
    # Given a job whose worker was not heard of any more
    id_ = (await add()).id
    assert await job_store.claim(id_, "first", OVER) is not None
    await recover()
    row = await jobs.row(id_)
    assert (row["state"], row["attempt"], row["runner"], row["sent_at"]) == ("queued", 1, None, None)
    # When another one has it
    assert await job_store.claim(id_, "second", LEASE) is not None
    # Then what the first one has to say changes nothing, and its heart beats in vain
    async with get_session() as session:
        settlement = job_store.Settlement("failed", "late")
        assert await job_store.settle(session, id_, 1, settlement) is None
        values = {"id": id_, "attempt": 1, "result": "{}"}
        assert (await session.execute(job_store.FINISH, values)).first() is None
    async with get_session() as session:
        assert await job_store.beat(session, [beating(id_, 1)], LEASE) == {}
        assert await job_store.beat(session, [beating(id_, 2)], LEASE) == {(id_, 2): "running"}


def beating(id_: uuid.UUID, number: int, progress: float | None = None) -> Any:
    """What a runner holds."""

    class Held:
        note = None

    held = Held()
    held.__dict__.update(id=id_, number=number, progress=progress)
    return held


async def test_lapsed_leases_are_counted_until_an_attempt_ends(jobs: JobScene) -> None:
    (order,) = await jobs.orders(1)
    id_ = await jobs.submit(order)
    for lapsed in (1, 2):
        assert await job_store.claim(id_, "worker", LEASE) is not None
        await jobs.sql("UPDATE job SET lease_until = now() - interval '1 minute'")
        await recover()
        assert (await jobs.row(id_))["lapsed"] == lapsed
    # When one comes to an end, whatever that is, the job has shown that it does not kill its worker
    assert await job_store.claim(id_, "worker", LEASE) is not None
    async with get_session() as session:
        await job_store.settle(session, id_, 3, job_store.Settlement("queued", "not yet"))
    assert (await jobs.row(id_))["lapsed"] == 0


async def test_a_lease_that_is_kept_is_not_taken_over(jobs: JobScene) -> None:
    id_ = (await add()).id
    await job_store.claim(id_, "runner", timedelta(seconds=0.5))
    async with get_session() as session:
        await job_store.beat(session, [beating(id_, 1, 0.25)], LEASE)
    row = await jobs.row(id_)
    assert row["progress"] == 0.25
    assert row["lease_until"] > row["started_at"] + timedelta(seconds=20)
    await recover()
    assert await jobs.states() == {"running": 1}


@pytest.mark.parametrize(
    ("change", "state", "error", "letters"),
    [
        ("excused = 0, max_attempts = 1", "failed", "started 1 times and never finished", 1),
        ("excused = 1, max_attempts = 1", "queued", "its worker was not heard of any more", 0),
        ("deadline_at = now()", "expired", "not finished by its deadline", 0),
        ("state = 'cancelling'", "cancelled", "cancelled by request", 0),
    ],
)
async def test_what_becomes_of_a_lapsed_job(
    jobs: JobScene, change: str, state: str, error: str, letters: int
) -> None:
    id_ = (await add()).id
    await job_store.claim(id_, "runner", OVER)
    await jobs.sql(f"UPDATE job SET {change}")
    await recover()
    row = await jobs.row(id_)
    assert row["state"] == state
    assert row["error"].startswith(error)
    assert (row["finished_at"] is None) == (state == "queued")
    assert (await jobs.sql("SELECT count(*) AS n FROM dead_letter"))[0]["n"] == letters


async def test_a_job_that_nobody_started_expires(jobs: JobScene) -> None:
    await add()
    await jobs.sql("UPDATE job SET deadline_at = now()")
    await recover()
    assert await jobs.states() == {"expired": 1}


async def test_old_jobs_are_deleted(jobs: JobScene) -> None:
    old, young = await add(), await add()
    for one in (old, young):
        await job_manage.cancel(one.id, OWNER)
    await jobs.sql("UPDATE job SET finished_at = now() - interval '31 days' WHERE id = $1", old.id)
    assert await job_upkeep.prune(timedelta(days=30)) == 1
    assert (await jobs.row(young.id))["state"] == "cancelled"


# -- final states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
async def test_what_has_ended_stays(jobs: JobScene, state: str) -> None:
    id_ = (await add()).id
    await jobs.sql(f"UPDATE job SET state = '{state}', finished_at = now()")
    for careless in (
        "state = 'queued'",
        "state = 'running', runner = 'x', lease_until = now()",
        "runner = 'x', lease_until = now()",
        "progress = 2",
        "state = 'done'",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await jobs.sql(f"UPDATE job SET {careless}")
    assert await job_store.claim(id_, "runner", LEASE) is None
    assert (await jobs.row(id_))["state"] == state
    info = await job_manage.cancel(id_, OWNER)
    assert info is not None
    assert info.state == state


# -- attempts --------------------------------------------------------------------------------------------


async def effect(session: AsyncSession) -> None:
    """The work."""
    await OrderRepository(session).add_event(1, "processed")


async def made(jobs: JobScene, handle: Any, attempts: int | None = None) -> dict[str, Any]:
    """The row of a job after an attempt at it."""
    await jobs.orders(1)
    kind: JobKind[Work] = job("test.made.v1", Work, attempts=attempts)(handle)
    async with get_session() as session:
        id_ = (await submit(session, kind, Work(order_id=1), owner=OWNER)).id
    await JobRunner(QUICK).run(id_)
    return dict(await jobs.row(id_))


async def test_effect_and_result_commit_together(jobs: JobScene) -> None:
    async def handle(context: JobContext[Work], session: AsyncSession) -> Work:
        await effect(session)
        return context.data

    row = await made(jobs, handle)
    assert (row["state"], row["progress"], row["error"]) == ("succeeded", 1, None)
    assert '"order_id": 1' in row["result"]
    assert await jobs.effects() == [1]


async def test_an_outcome_rolls_back(jobs: JobScene) -> None:
    async def handle(context: JobContext[Work], session: AsyncSession) -> Outcome:
        await effect(session)
        return Postpone("not now", 60)

    row = await made(jobs, handle)
    assert (row["state"], row["error"], row["attempt"], row["excused"]) == ("queued", "not now", 1, 1)
    assert row["next_try_at"] > row["started_at"] + timedelta(seconds=50)
    assert await jobs.effects() == []


async def test_transient_errors_end_at_the_last_attempt(jobs: JobScene) -> None:
    async def handle(context: JobContext[Work], session: AsyncSession) -> None:
        await effect(session)
        raise TransientError("the provider is overloaded", 60)

    row = await made(jobs, handle, attempts=2)
    assert (row["state"], row["error"], row["excused"]) == (
        "queued",
        "TransientError: the provider is overloaded",
        0,
    )
    assert row["next_try_at"] > row["started_at"] + timedelta(seconds=50)  # Retry-After
    await jobs.sql("UPDATE job SET next_try_at = now()")
    await JobRunner(QUICK).run(row["id"])
    row = dict(await jobs.row(row["id"]))
    assert row["state"] == "failed"
    assert row["error"].startswith("gave up after 2 attempts: TransientError")
    assert await jobs.effects() == []


async def test_the_text_of_a_bug_is_not_for_the_owner(
    jobs: JobScene, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(context: JobContext[Work], session: AsyncSession) -> None:
        raise KeyError("a secret")

    row = await made(jobs, handle)
    assert (row["state"], row["error"]) == ("failed", "unexpected KeyError")
    (letter,) = await jobs.sql("SELECT * FROM dead_letter")
    assert "a secret" in letter["reason"]
    assert letter["source"] == "job"
    assert "Traceback" in caplog.text


async def test_reasons_that_no_database_can_store(jobs: JobScene) -> None:
    async def handle(context: JobContext[Work], session: AsyncSession) -> Outcome:
        return Dead("a\x00\ud800b")

    row = await made(jobs, handle)
    assert (row["state"], row["error"]) == ("failed", "a?b")


async def test_a_failed_job_is_replayed_under_its_id(jobs: JobScene) -> None:
    keys = []

    async def handle(context: JobContext[Work], session: AsyncSession) -> Outcome | None:
        keys.append(context.idempotency_key)
        if len(keys) == 1:
            return Dead("it cannot be done")
        await effect(session)
        return None

    row = await made(jobs, handle)
    assert row["state"] == "failed"
    # When its dead letter is replayed
    letters = dead_letters()
    async for page in letters.pages():
        assert [letter.event["type"] for letter in page] == ["test.made.v1"]
        assert await letters.replay(page) == [None]
    assert await jobs.states() == {"queued": 1}
    assert await jobs.sql("SELECT 1 FROM dead_letter") == []
    # Then it is done, with the same key for the outside
    await JobRunner(QUICK).run(row["id"])
    assert (await jobs.row(row["id"]))["state"] == "succeeded"
    assert keys[0] == keys[1]


async def test_cancelled_while_it_runs(jobs: JobScene) -> None:
    cancelled = asyncio.Event()

    async def handle(context: JobContext[Work], session: AsyncSession) -> None:
        context.report(0.5, "half way")
        await effect(session)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    run = asyncio.ensure_future(made(jobs, handle))
    await jobs.until_state("running")

    async def reported() -> bool:
        return bool(await jobs.sql("SELECT 1 FROM job WHERE progress = 0.5 AND note = 'half way'"))

    await eventually(reported, 60, "the progress is shown while it runs")
    (found,) = await job_manage.page(OWNER)
    info = await job_manage.cancel(found.id, OWNER)
    assert info is not None
    assert info.state == "cancelling"
    row = await asyncio.wait_for(run, 60)
    assert (row["state"], row["error"]) == ("cancelled", "cancelled by request")
    assert cancelled.is_set()
    assert await jobs.effects() == []
    again = await job_manage.cancel(found.id, OWNER)
    assert again is not None
    assert again.state == "cancelled"


async def test_an_attempt_that_takes_too_long(jobs: JobScene) -> None:
    async def handle(context: JobContext[Work], session: AsyncSession) -> None:
        await effect(session)
        await session.execute(text("SELECT pg_sleep(30)"))

    kind: JobKind[Work] = job("test.slow.v1", Work, timeout=timedelta(seconds=0.5))(handle)
    await jobs.orders(1)
    async with get_session() as session:
        id_ = (await submit(session, kind, Work(order_id=1), owner=OWNER)).id
    await asyncio.wait_for(JobRunner(QUICK).run(id_), 60)
    row = await jobs.row(id_)
    assert (row["state"], row["excused"]) == ("queued", 0)
    assert "0.5 s" in row["error"]

    # And once its deadline is over it is not tried again
    async def expired() -> bool:
        await jobs.sql("UPDATE job SET next_try_at = now(), deadline_at = now() + interval '400 ms'")
        await JobRunner(QUICK).run(id_)  # it has not begun where that took longer
        return bool((await jobs.row(id_))["state"] == "expired")

    await eventually(expired, 60)
    assert await jobs.effects() == []


async def test_kinds_and_payloads_of_other_versions(jobs: JobScene) -> None:
    # Given a worker that does not know the kind yet: another one may
    unknown = (await add()).id
    await JobRunner(QUICK).run(unknown)
    row = await jobs.row(unknown)
    assert (row["state"], row["excused"], row["error"]) == (
        "queued",
        1,
        "no worker knows the kind test.work.v1",
    )

    # Given a payload that does not fit
    async def handle(context: JobContext[Work], session: AsyncSession) -> None:
        raise AssertionError("never called")

    job("test.work.v1", Work)(handle)
    await jobs.sql("""UPDATE job SET next_try_at = now(), payload = '{"order_id": "x"}'""")
    await JobRunner(QUICK).run(unknown)
    row = await jobs.row(unknown)
    assert row["state"] == "failed"
    assert row["error"].startswith("payload of test.work.v1: order_id: ")

"""Limits of calls that hold for all workers together: calls and tokens a minute, and an owner's spending."""

import asyncio
import time
from collections import deque
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from app.core import llm_call, llm_limit
from app.core.job import BusyError
from app.core.llm_limit import Booking, book, settle
from app.core.llm_settings import LlmSettings
from app.core.outcomes import PermanentError
from support.job_scene import OWNER, JobScene
from support.llm_scene import LlmScene
from support.llm_server import running_llm
from support.wait import eventually

BURST = llm_limit.BURST.total_seconds()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the limits of this process."""

    def given(**settings: Any) -> None:
        chosen = LlmSettings(llm_model="model-1", llm_prices={"model-1": (3, 15)}, **settings)
        for module in (llm_limit, llm_call):
            monkeypatch.setattr(module, "llm_settings", lambda: chosen)

    return given


def estimate(tokens: int = 100, cost: int | None = 100) -> dict[str, Any]:
    return {
        "model": "model-1",
        "input_tokens": tokens // 2,
        "output_tokens": tokens - tokens // 2,
        "cost": cost,
    }


async def tried(owner: str = OWNER, tokens: int = 100, cost: int = 100) -> Booking | float:
    """A booking, or how long to wait for one."""
    try:
        booking = await book(owner, estimate(tokens, cost))
    except BusyError as busy:
        return busy.retry_after or 0.0
    assert booking is not None
    return booking


async def test_calls_of_a_minute_are_granted_once_and_the_rest_is_told_times_apart(
    jobs: JobScene, limits: Any
) -> None:
    # Given a call in 10 s
    limits(llm_requests_per_minute={"model-1": 6})
    began = time.monotonic()
    # When many are made at once
    found = await asyncio.gather(*(tried() for _ in range(12)))
    passed = time.monotonic() - began
    # Then one or the other gets through
    granted = [booking for booking in found if isinstance(booking, Booking)]
    assert 1 <= len(granted) <= 2 + passed / 10
    # And the others are told to come one after the other, at most in a minute
    waits = sorted(wait for wait in found if not isinstance(wait, Booking))
    assert waits[-1] == llm_limit.LONGEST
    early = [wait for wait in waits if wait < llm_limit.LONGEST]
    gaps = [later - earlier for earlier, later in pairwise(early)]
    assert len(early) >= 3
    assert all(10 - passed <= gap <= 10 + passed for gap in gaps), gaps
    # And another model, and one without a limit, are not concerned
    assert await book(OWNER, estimate() | {"model": "model-2"}) is None


async def test_tokens_are_booked_by_estimate_and_settled_with_what_was_used(
    jobs: JobScene, limits: Any
) -> None:
    # Given a call whose estimate takes ten minutes of the quota
    limits(llm_tokens_per_minute={"model-1": 1000})
    first = await tried(tokens=10_000)
    assert isinstance(first, Booking)
    assert not isinstance(await tried(), Booking)
    # When it has used nearly nothing, and says so
    await settle(first, estimate(10, 0))
    # Then there is room again; and without that, as when its worker has died, there is none
    assert isinstance(await tried(tokens=10_000), Booking)
    assert not isinstance(await tried(), Booking)
    ((typical,),) = await jobs.sql("SELECT typical FROM llm_rate")
    assert timedelta() < typical < timedelta(seconds=1)


async def test_a_cap_counts_calls_under_way_and_holds_until_the_next_day(jobs: JobScene, limits: Any) -> None:
    limits(llm_daily_spend=0.001)
    first = await tried(cost=600)
    assert isinstance(first, Booking)
    # What is under way may come to less: come again soon
    assert await tried(cost=600) == llm_limit.SOON
    # Others are not concerned
    assert isinstance(await tried("bob", cost=600), Booking)
    await settle(first, estimate(10, 200))
    second = await tried(cost=600)
    assert isinstance(second, Booking)
    # What is spent is spent: come again tomorrow
    await settle(second, estimate(10, 600))
    wait = await tried(cost=600)
    assert isinstance(wait, float)
    assert llm_limit.SOON != wait <= 86_401
    (row,) = await jobs.sql("SELECT cost, held FROM llm_spend WHERE owner = $1", OWNER)
    assert tuple(row) == (800, 0)
    # And it is counted anew on each day, and forgotten in the end
    await jobs.sql("UPDATE llm_spend SET day = day - 60")
    assert isinstance(await tried(cost=600), Booking)
    assert len(await jobs.sql("SELECT 1 FROM llm_spend WHERE owner = $1", OWNER)) == 1
    for cost in (None, 1001):
        with pytest.raises(PermanentError):
            await book(OWNER, estimate(10, cost))


async def test_what_is_refused_by_the_quota_is_not_held_from_the_owner(jobs: JobScene, limits: Any) -> None:
    limits(llm_daily_spend=1, llm_requests_per_minute={"model-1": 1})
    assert isinstance(await tried(), Booking)
    while isinstance(await tried(), Booking):
        pass
    (row,) = await jobs.sql("SELECT held FROM llm_spend")
    granted = row["held"]
    assert not isinstance(await tried(), Booking)
    assert [tuple(row) for row in await jobs.sql("SELECT held FROM llm_spend")] == [(granted,)]


async def test_a_refusal_of_the_provider_holds_up_all_that_share_the_quota(
    jobs: JobScene, limits: Any
) -> None:
    # Given a quota that is far from used up
    limits(llm_requests_per_minute={"model-1": 60_000})
    first = await tried()
    assert isinstance(first, Booking)
    # When the provider wants to be left alone for half a minute
    began = time.monotonic()
    await settle(first, estimate(0, 0), retry_after=30)
    # Then nobody gets a booking, and all are told to come when that has passed
    waits = [await tried() for _ in range(3)]
    passed = time.monotonic() - began
    assert all(not isinstance(wait, Booking) and 30 - passed <= wait <= 31 for wait in waits), waits
    # And a shorter wish later on does not change that
    await settle(first, estimate(0, 0), retry_after=1)
    assert not isinstance(await tried(), Booking)
    # And then calls are granted again
    await jobs.sql("UPDATE llm_rate SET requests_at = requests_at - interval '30 s'")
    assert isinstance(await tried(), Booking)
    # And nobody is held up for ever by what a header says
    await settle(first, estimate(0, 0), retry_after=1e9)
    ((held,),) = await jobs.sql("SELECT requests_at - now() FROM llm_rate")
    assert held <= timedelta(seconds=llm_limit.LONGEST_SILENCE) + llm_limit.BURST


async def test_after_a_refusal_to_one_worker_the_other_does_not_ask(jobs: JobScene) -> None:
    # Given two workers, of which one is frozen while the other is refused for six seconds
    async with running_llm(script=deque(["429 rate_limit_error 6"])) as server:
        quota = {"LLM_REQUESTS_PER_MINUTE": '{"model-1": 60000}', "JOB_LEASE_SECONDS": "60"}
        llm = LlmScene(jobs, server, quota)
        refused, other = llm.worker(), llm.worker()
        await refused.until_ready()
        await other.until_ready()
        other.pause()
        first = await llm.submit()

        async def put_back() -> bool:
            return bool((await jobs.row(first))["excused"])

        await eventually(put_back, 60)
        # When it is the other one that gets the next job
        refused.pause()
        other.resume()
        await llm.submit()
        await jobs.until_state("succeeded", 2, deadline_s=60)
        refused.resume()
        # Then it has asked when the six seconds were over
        at, *later = [call.at for call in server.calls]
        assert len(later) == 2
        assert min(later) - at >= 5.9
        (await llm.ledger("llm: a worker is refused, and the other waits")).assert_clean()


async def test_workers_keep_a_quota_together_and_a_cap_holds_jobs(jobs: JobScene) -> None:
    # Given five calls a second, and an owner who has spent what may be spent in a day
    async with running_llm() as server:
        settings = {
            "LLM_REQUESTS_PER_MINUTE": '{"model-1": 300}',
            "LLM_TOKENS_PER_MINUTE": '{"model-1": 10000000}',
            "LLM_DAILY_SPEND": "1",
            "JOB_LEASE_SECONDS": "60",
        }
        llm = LlmScene(jobs, server, settings)
        for number in range(45):
            await llm.submit(f"owner-{number % 3}")
        spender = await llm.submit("spender")
        await jobs.sql(
            """INSERT INTO llm_spend (owner, day, cost)
               SELECT 'spender', (now() AT TIME ZONE 'UTC')::date + n, 1000000
               FROM generate_series(0, 1) AS n"""
        )
        began = time.monotonic()
        workers = [llm.worker() for _ in range(2)]
        for worker in workers:
            await worker.until_ready()
        await jobs.until_state("succeeded", 45, deadline_s=90)
        # Then the quota was kept, and no attempt used up for it
        assert time.monotonic() - began >= (45 - 1) / 5 - BURST
        assert len(server.calls) == 45
        rows = await jobs.sql("SELECT attempt - excused AS counted FROM job WHERE state = 'succeeded'")
        assert {row["counted"] for row in rows} == {1}

        # And the spender's job waits for tomorrow, or has no time for that, and has asked nothing
        async def held() -> bool:
            row = await jobs.row(spender)
            return bool(row["state"] == "failed" and "may be spent in a day" in row["error"]) or (
                row["state"] == "queued" and row["error"] == "what may be spent in a day is spent"
            )

        await eventually(held, 60)
        jobs.accepted.pop()
        assert {tuple(row) for row in await jobs.sql("SELECT held FROM llm_spend")} == {(0,)}
        (await llm.ledger("llm: a quota that two workers share")).assert_clean()

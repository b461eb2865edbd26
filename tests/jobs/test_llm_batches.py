"""Jobs that are asked in batches of their provider: results, refusals, cancellations, and what they cost."""

from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from app.core import (
    job_attempt,
    job_manage,
    job_upkeep,
    llm_batch,
    llm_batch_store,
    llm_batch_worker,
    llm_call,
    llm_limit,
    llm_usage,
)
from app.core.llm_batch import gather
from app.core.llm_batch_provider import BatchProvider, Result
from app.core.llm_batch_store import LostError
from app.core.llm_settings import LlmSettings
from app.core.llm_usage import usage_of
from app.core.outcomes import Postpone, TransientError
from app.core.worker_settings import WorkerSettings
from support.batch_scene import BRISK, JOBS, PRICE, BatchScene
from support.job_scene import OWNER
from support.wait import eventually, stays

BRISKLY = WorkerSettings(worker_retry_base_seconds=0.1, worker_retry_cap_seconds=0.5)
# Half of what the provider takes for 5 tokens in and 4 out.
COST = round((5 * PRICE[0] + 4 * PRICE[1]) / 2)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is tried again is tried again soon; tokens have a price, and spending a limit that a test sets."""
    monkeypatch.setattr(job_attempt, "worker_settings", lambda: BRISKLY)

    def given(**changes: Any) -> None:
        chosen = LlmSettings(llm_model="model-1", llm_prices={"model-1": PRICE}, **changes)
        for module in (llm_call, llm_limit, llm_usage, llm_batch):
            monkeypatch.setattr(module, "llm_settings", lambda: chosen)

    given()
    return given


async def test_each_row_ends_as_its_result_says(scene: BatchScene) -> None:
    # Given results of all kinds, in the order in which the jobs were submitted
    scene.model.ends = deque(
        [
            "succeeded",
            "errored api_error",
            "errored invalid_request_error",
            "expired",
            "errored overloaded_error",
        ]
    )
    ids = await scene.submit(5)
    async with scene.running():
        await scene.jobs.until_state("succeeded", 4, 60)
        await scene.jobs.until_state("failed", 1, 60)
    # Then what passes is asked again in another batch, and only errors of the request use up attempts
    by_id = {row["id"]: row for row in await scene.rows()}
    counted = sorted(row["attempt"] - row["excused"] for row in by_id.values())
    assert counted == [1, 1, 1, 1, 2]
    assert sorted(scene.asked(id_) for id_ in ids) == [1, 1, 2, 2, 2]
    (failed,) = (row for row in by_id.values() if row["state"] == "failed")
    assert "invalid_request_error" in failed["error"]
    assert await scene.jobs.sql("SELECT 1 FROM dead_letter WHERE message_id = $1", str(failed["id"]))
    # And the usage says what was paid, at the price of a batch
    for id_ in ids:
        usage = await usage_of(id_, OWNER)
        paid = id_ != failed["id"]
        assert (usage.calls, usage.cost, usage.exact) == (scene.asked(id_), COST * paid, True)
    ended = await scene.batches()
    assert sum(row["cost"] for row in ended) == COST * 4
    assert {row["ended_at"] is None for row in ended} == {False}
    done = [row["payload"] for row in by_id.values() if row["state"] == "succeeded"]
    assert len(done) == len(await scene.jobs.effects()) == 4


async def test_a_storm_of_refusals_costs_no_attempt(scene: BatchScene) -> None:
    # Given a provider that is in trouble when it is asked, looked at, and read
    scene.model.statuses = deque([429, 503, 500, 529, 200, 200, 429, 503, 502, 200, 500])
    await scene.submit(6)
    async with scene.running(lease=1):
        await scene.jobs.until_state("succeeded", 6, 90)
    rows = await scene.rows()
    assert {row["attempt"] - row["excused"] for row in rows} == {1}
    assert {scene.asked(row["id"]) for row in rows} == {1}
    assert not scene.model.statuses
    (await scene.jobs.job_ledger(f"llm batch: 429 and worse, {scene.wire}")).assert_clean()


async def test_one_that_is_refused_with_its_batch_takes_nobody_along(scene: BatchScene) -> None:
    scene.model.poison = "poison"
    await scene.submit(6)
    await scene.submit(1, do="poison")
    await scene.submit(6)
    # When a batch of all is refused
    async with scene.running():
        await scene.jobs.until_state("succeeded", 12, 90)
        await scene.jobs.until_state("failed", 1, 60)
    # Then smaller ones show which it is, and the others have lost no attempt
    rows = await scene.rows()
    assert {row["attempt"] - row["excused"] for row in rows} == {1}
    (failed,) = (row for row in rows if row["state"] == "failed")
    assert "poison" in failed["payload"]
    assert len(await scene.jobs.effects()) == 12


async def test_two_workers_ask_each_job_once(anthropic: BatchScene) -> None:
    ids = await anthropic.submit(45)
    async with anthropic.running(2, llm_batch_most=7):
        await anthropic.jobs.until_state("succeeded", 45, 90)
    assert {anthropic.asked(id_) for id_ in ids} == {1}
    assert max(len(batch.requests) for batch in anthropic.model.batches) == 7
    assert {row["attempt"] - row["excused"] for row in await anthropic.rows()} == {1}
    (await anthropic.jobs.job_ledger("llm batch: two workers")).assert_clean()


async def test_a_batch_waits_until_it_is_full_or_old_enough(anthropic: BatchScene) -> None:
    await anthropic.submit(3)
    lease, patient = (
        JOBS.lease,
        BRISK.model_copy(update={"llm_batch_wait_seconds": 3600, "llm_batch_most": 4}),
    )
    assert await llm_batch_store.collect(patient, "one", lease) is None
    assert set(await anthropic.jobs.states()) == {"queued"}
    await anthropic.jobs.sql(
        "UPDATE job SET next_try_at = now() - interval '2 h' WHERE id = (SELECT id FROM job LIMIT 1)"
    )
    found = await llm_batch_store.collect(patient, "one", lease)
    assert found is not None
    assert len(found[1]) == 3
    await anthropic.submit(5)
    found = await llm_batch_store.collect(patient, "one", lease)
    assert found is not None
    assert len(found[1]) == 4


async def test_cancelled_while_it_is_in_the_batch(anthropic: BatchScene) -> None:
    anthropic.model.hold()
    ids = await anthropic.submit(3)
    async with anthropic.running():
        await eventually(lambda: anthropic.model.polls >= 2, 60)
        # When one is cancelled, and another one is past its deadline
        for _ in range(2):
            info = await job_manage.cancel(ids[0], OWNER)
            assert info is not None
            assert info.state == "cancelling"
        await anthropic.jobs.sql(
            "UPDATE job SET deadline_at = now(), lease_until = now() - interval '1 s' WHERE id = $1", ids[1]
        )
        await job_upkeep.recover(JOBS.lease * 0)
        assert (await anthropic.jobs.row(ids[1]))["state"] == "expired"
        anthropic.model.release()
        # Then their answers come to nothing, and what they have cost is on record
        await anthropic.jobs.until_state("succeeded", 1, 60)
        await anthropic.jobs.until_state("cancelled", 1, 60)

        async def ended() -> bool:
            return (await anthropic.batches())[0]["ended_at"] is not None

        await eventually(ended, 60)
    assert (await usage_of(ids[0], OWNER)).cost == COST
    (batch,) = await anthropic.batches()
    assert (batch["cost"], batch["input_tokens"], batch["output_tokens"]) == (COST * 3, 15, 12)
    assert len(await anthropic.jobs.effects()) == 1


async def test_a_batch_that_nobody_waits_for_is_cancelled(scene: BatchScene) -> None:
    scene.model.hold()
    ids = await scene.submit(2)
    async with scene.running(llm_batch_poll_seconds=0.01):
        await eventually(lambda: scene.model.polls >= 1, 60)
        for id_ in ids:
            await job_manage.cancel(id_, OWNER)
        await scene.jobs.until_state("cancelled", 2, 90)
    assert [batch.cancelled for batch in scene.model.batches] == [True]
    assert await scene.jobs.effects() == []


class Breaking:
    """Breaks off in the middle of the results, the first `times`."""

    def __init__(self, provider: BatchProvider, times: int) -> None:
        self._provider, self.times = provider, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    async def results(self, source: str) -> AsyncGenerator[Result, None]:
        """See BatchProvider."""
        count = 0
        async for result in self._provider.results(source):
            count += 1
            if count == 6 and self.times:
                self.times -= 1
                raise TransientError("cut")
            yield result


async def test_results_that_break_off_are_read_again(
    anthropic: BatchScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_batch_worker, "CHUNK", 2)
    ids = await anthropic.submit(9)
    provider = Breaking(anthropic.provider(), 2)
    monkeypatch.setattr(BatchScene, "provider", lambda _: provider)
    async with anthropic.running():
        await anthropic.jobs.until_state("succeeded", 9, 60)

        async def ended() -> bool:
            return (await anthropic.batches())[0]["ended_at"] is not None

        await eventually(ended, 60)
    assert provider.times == 0
    # Then each has its one effect, and nothing is counted twice
    assert {anthropic.asked(id_) for id_ in ids} == {1}
    assert (await anthropic.batches())[0]["cost"] == COST * 9
    for id_ in ids:
        assert [kind for kind, _ in await anthropic.told(id_)] == ["started", "answered"]
    (await anthropic.jobs.job_ledger("llm batch: results break off")).assert_clean()


async def test_a_result_that_is_missing_is_waited_for(anthropic: BatchScene) -> None:
    # Given an ended batch that has no line for one of its requests
    anthropic.model.ends = deque(["missing"])
    await anthropic.submit(3)
    async with anthropic.running():
        await anthropic.jobs.until_state("succeeded", 2, 60)
        # Then that one is not asked again: it may have been paid for
        await stays(lambda: len(anthropic.model.batches) == 1, 1)
        assert (await anthropic.jobs.states())["running"] == 1
        anthropic.model.batches[0].ends = ["succeeded"] * 3
        await anthropic.jobs.until_state("succeeded", 3, 60)
    (await anthropic.jobs.job_ledger("llm batch: a result comes late")).assert_clean()


async def test_who_comes_too_late_with_a_batch_cancels_it(scene: BatchScene) -> None:
    # Given a worker that has frozen before it asked the provider
    await scene.submit(2)
    found = await llm_batch_store.collect(BRISK, "frozen", JOBS.lease)
    assert found is not None
    batch, rows = found
    asked = await gather(batch, rows)
    # When another one has given up its batch, and its jobs are done, before it goes on
    await scene.jobs.sql("UPDATE llm_batch SET look_at = now() - interval '1 s'")
    taken = await llm_batch_store.take("other", JOBS.lease, JOBS.keep)
    assert taken is not None
    await llm_batch.give_back(taken, Postpone("not found"), llm_batch.Used())
    async with scene.running():
        await scene.jobs.until_state("succeeded", 2, 60)
    late = scene.worker()
    with pytest.raises(LostError):
        await late._submit(batch, asked)
    # Then the batch that nobody waits for is cancelled, and changes nothing
    assert [one.cancelled for one in scene.model.batches] == [False, True]
    await late.provider.aclose()
    (await scene.jobs.job_ledger(f"llm batch: a late worker, {scene.wire}")).assert_clean()


async def test_a_wrong_key_costs_no_job(anthropic: BatchScene) -> None:
    anthropic.model.statuses = deque([401] * 10_000)
    await anthropic.submit(2)
    async with anthropic.running() as (worker,):
        await eventually(lambda: "401" in "".join(worker.problems()), 60, "readiness says so")
        anthropic.model.statuses.clear()
        await anthropic.jobs.until_state("succeeded", 2, 60)
        await eventually(lambda: not worker.problems(), 60)
    assert {row["attempt"] - row["excused"] for row in await anthropic.rows()} == {1}


async def test_spending_is_limited_and_settled(anthropic: BatchScene, settings: Any) -> None:
    # Given an owner who may spend what two calls may cost at most
    anthropic.model.hold()
    settings(llm_daily_spend=0.017)
    await anthropic.submit(3, owner="spender")
    async with anthropic.running():
        await eventually(lambda: anthropic.model.polls >= 1, 60)
        # Then a third one waits until it is known what these have cost
        assert (await anthropic.jobs.states())["running"] == 2
        held = await anthropic.jobs.sql("SELECT held, cost FROM llm_spend")
        assert held[0]["held"] > 15_000
        anthropic.model.release()
        await anthropic.jobs.until_state("succeeded", 2, 60)
        await anthropic.jobs.sql("UPDATE job SET next_try_at = now() WHERE state = 'queued'")
        await anthropic.jobs.until_state("succeeded", 3, 60)
    (row,) = await anthropic.jobs.sql("SELECT held, cost FROM llm_spend")
    assert (row["held"], row["cost"]) == (0, COST * 3)


async def test_one_that_kills_the_worker_that_gathers_is_found(anthropic: BatchScene) -> None:
    # Given one among many that kills each worker that asks what it wants
    ids = await anthropic.submit(30)
    sizes, worker = [], anthropic.worker()
    for _ in range(60):
        found = await llm_batch_store.collect(BRISK, "victim", JOBS.lease)
        if found is None:
            break
        taken = [row.id for row in found[1]]
        if ids[7] in taken:
            sizes.append(len(taken))
            await anthropic.jobs.sql("UPDATE llm_batch SET look_at = now() - interval '1 s'")
            assert await worker._turn()  # the next worker finds what is left
        else:
            await anthropic.jobs.sql(
                "UPDATE job SET state = 'succeeded', runner = NULL, lease_until = NULL, finished_at = now() "
                "WHERE state = 'running'"
            )
            await anthropic.jobs.sql("UPDATE llm_batch SET ended_at = now() WHERE ended_at IS NULL")
        await anthropic.jobs.sql("UPDATE job SET next_try_at = now() WHERE state = 'queued'")
    # Then it is alone soon, and set aside, and the others are well
    assert sizes == [30, 30, 15, 1, 1, 1]
    assert await anthropic.jobs.states() == {"failed": 1, "succeeded": 29}
    rows = [row for row in await anthropic.rows() if row["id"] != ids[7]]
    assert {row["attempt"] - row["excused"] for row in rows} == {1}
    await worker.provider.aclose()

"""Chains, fan-outs and jobs that wait for others."""

import uuid
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_manage
from app.core.database import get_session
from app.core.job import JobContext, JobKind, job, submit
from app.core.job_flow import results
from app.core.job_letters import dead_letters
from app.core.job_runner import JobRunner
from app.core.job_settings import JobSettings
from app.core.outcomes import Dead, Done, Outcome
from app.repositories.orders import OrderRepository
from support.job_scene import OWNER, JobScene, Work

QUICK = JobSettings(job_lease_seconds=1, job_poll_seconds=0.1)


class Parts(BaseModel):
    """Payload of a job that waits."""

    parts: list[uuid.UUID]


class Total(BaseModel):
    """What comes of it."""

    orders: list[int]


class Flow:
    """Kinds of jobs for one test: parts, and a job that waits for them. Parts of `broken` orders fail."""

    def __init__(self) -> None:
        self.broken: set[int] = set()
        self.part: JobKind[Work] = job("test.part.v1", Work)(self.do_part)
        self.whole: JobKind[Parts] = job("test.whole.v1", Parts)(self.do_whole)

    async def do_part(self, context: JobContext[Work], session: AsyncSession) -> Work | Dead:
        await OrderRepository(session).add_event(context.data.order_id, "processed")
        if context.data.order_id in self.broken:
            return Dead("the part is broken")
        return context.data

    async def do_whole(self, context: JobContext[Parts], session: AsyncSession) -> Outcome | Total:
        parts = await results(session, context.data.parts)
        if not isinstance(parts, list):
            return parts
        return Total(orders=[part["order_id"] for part in parts])

    async def submit(self, orders: list[int]) -> tuple[list[uuid.UUID], uuid.UUID]:
        """The parts and the job that waits for them, all in one transaction."""
        async with get_session() as session:
            parts = [
                (await submit(session, self.part, Work(order_id=order), owner=OWNER)).id for order in orders
            ]
            whole = await submit(session, self.whole, Parts(parts=parts), owner=OWNER)
        return parts, whole.id


@pytest.fixture
def flow() -> Flow:
    return Flow()


async def run(jobs: JobScene, *ids: uuid.UUID) -> list[Any]:
    """The rows of jobs after an attempt at each."""
    await jobs.sql("UPDATE job SET next_try_at = now() WHERE state = 'queued'")
    for id_ in ids:
        await JobRunner(QUICK).run(id_)
    return [await jobs.row(id_) for id_ in ids]


async def test_the_whole_waits_for_its_parts(jobs: JobScene, flow: Flow) -> None:
    orders = await jobs.orders(3)
    (first, *rest), whole = await flow.submit(orders)
    # While parts go on it waits, at no cost
    await run(jobs, first)
    for _ in range(10):  # more often than it has attempts
        (row,) = await run(jobs, whole)
        assert (row["state"], row["error"]) == ("queued", "waits for 2 of 3 parts")
    assert row["attempt"] == row["excused"] == 10
    # When the last one has succeeded, it has their results, in the order of the parts
    await run(jobs, *reversed(rest))
    (row,) = await run(jobs, whole)
    assert row["state"] == "succeeded"
    info = await job_manage.find(whole, OWNER)
    assert info is not None
    assert str(orders) in str(info.result)
    assert sorted(await jobs.effects()) == orders


async def test_nothing_goes_on_when_a_part_fails(jobs: JobScene, flow: Flow) -> None:
    orders = await jobs.orders(3)
    flow.broken = {orders[1]}
    parts, whole = await flow.submit(orders)
    await run(jobs, parts[1])
    (row,) = await run(jobs, whole)
    # Then the whole fails with the reason, without waiting for the others, which go on
    assert row["state"] == "failed"
    assert row["error"] == f"part test.part.v1 {parts[1]} failed: the part is broken"
    assert [row["state"] for row in await run(jobs, parts[0], parts[2])] == ["succeeded", "succeeded"]
    # When the cause is mended and both letters are replayed
    flow.broken = set()
    async for page in dead_letters().pages():
        assert len(page) == 2
        assert await dead_letters().replay(page) == [None, None]
    (_, row) = await run(jobs, parts[1], whole)
    # Then it succeeds, and no part was done twice
    assert row["state"] == "succeeded"
    assert sorted(await jobs.effects()) == orders


@pytest.mark.parametrize("what", ["cancelled", "expired", "gone"])
async def test_parts_that_will_not_come(jobs: JobScene, flow: Flow, what: str) -> None:
    (part,), whole = await flow.submit(await jobs.orders(1))
    if what == "gone":
        await jobs.sql("DELETE FROM job WHERE id = $1", part)
    else:
        await jobs.sql(f"UPDATE job SET state = '{what}', finished_at = now() WHERE id = $1", part)
    (row,) = await run(jobs, whole)
    assert row["state"] == "failed"
    assert ("is not there" if what == "gone" else what) in row["error"]


async def test_a_link_of_a_chain_commits_with_its_successor(jobs: JobScene, flow: Flow) -> None:
    fails = [True]

    async def link(context: JobContext[Work], session: AsyncSession) -> Outcome:
        await submit(session, flow.part, context.data, owner=context.owner)
        return Dead("not now") if fails.pop() else Done()

    kind: JobKind[Work] = job("test.link.v1", Work)(link)
    (order,) = await jobs.orders(1)
    async with get_session() as session:
        first = await submit(session, kind, Work(order_id=order), owner=OWNER)
    # Given a link that fails: there is no successor
    await run(jobs, first.id)
    assert await jobs.states() == {"failed": 1}
    # When it is replayed and succeeds, there is one
    fails.append(False)
    async for page in dead_letters().pages():
        await dead_letters().replay(page)
    await run(jobs, first.id)
    assert await jobs.states() == {"succeeded": 1, "queued": 1}
    assert await jobs.effects() == []

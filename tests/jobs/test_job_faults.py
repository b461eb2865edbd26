"""Attempts at jobs whose database or provider breaks; the runner is in this process."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import settings
from app.core.database import get_session
from app.core.job import JobContext, job, submit
from app.core.job_runner import JobRunner
from app.core.job_settings import JobSettings
from app.repositories.orders import OrderRepository
from app.tasks.process_payment import ProcessPayment, process_payment
from support.job_scene import OWNER, JobScene, Work, scene_at
from support.ledger import Ledger
from support.servers import PostgresServer
from support.wait import stays
from support.world import running_world
from world.client import drop, fail

QUICK = JobSettings(job_lease_seconds=2, job_poll_seconds=0.2)


async def test_a_payment_is_captured_once(jobs: JobScene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a provider that charges, breaks off without an answer, and then asks for patience
    (order,) = await jobs.orders(1)
    async with running_world() as world:
        monkeypatch.setattr(settings, "payment_url", world.environment()["PAYMENT_URL"])
        await world.script("payments", drop(1), fail(503, 1, retry_after=7))
        async with get_session() as session:
            payload = ProcessPayment(order_id=order)
            submitted = await submit(session, process_payment, payload, owner=OWNER, idempotency_key="k")
        # When it is tried as often as it takes
        for _ in range(3):
            await jobs.sql("UPDATE job SET next_try_at = now()")
            await JobRunner(QUICK).run(submitted.id)
        row = await jobs.row(submitted.id)
        effects = await world.effects("payments")
        keys = {call.key for call in await world.calls("payments")}
    # Then the customer has paid once, and the order is paid
    assert (row["state"], row["attempt"]) == ("succeeded", 3)
    assert len(keys) == 1
    (paid,) = await jobs.sql("SELECT order_id, reference FROM payment")
    assert (paid["order_id"], paid["reference"]) == (order, effects[0].answer["reference"])
    charged = [order for _ in effects]
    ledger = Ledger.of(
        "jobs: a provider breaks off", attempted=[order], accepted=[order], effects=charged, recovered=1
    )
    ledger.assert_clean()


async def test_the_database_goes_away(own_postgres: PostgresServer, own_postgres_url: str) -> None:
    async with scene_at(own_postgres_url) as jobs:
        # Given two jobs of which one runs
        started, go_on = asyncio.Event(), asyncio.Event()

        async def handle(context: JobContext[Work], session: AsyncSession) -> None:
            started.set()
            await go_on.wait()
            await OrderRepository(session).add_event(context.data.order_id, "processed")

        kind = job("test.db.v1", Work, timeout=timedelta(seconds=20), attempts=1)(handle)
        first, second = await jobs.orders(2)
        ids = [await jobs.submit(order, kind=kind) for order in (first, second)]
        runner = JobRunner(JobSettings(job_lease_seconds=60, job_poll_seconds=0.2))
        runs = [asyncio.ensure_future(runner.run(ids[0]))]
        await asyncio.wait_for(started.wait(), 10)
        # When the database dies, the other one is brought, and both meet nobody there
        own_postgres.kill()
        runs.append(asyncio.ensure_future(runner.run(ids[1])))
        go_on.set()
        await stays(lambda: not any(run.done() for run in runs), 0.5)
        own_postgres.start()
        await asyncio.wait_for(asyncio.gather(*runs), 60)
        # Then nobody pays for it with the only attempt there is
        row = await jobs.row(ids[0])
        assert (row["state"], row["attempt"], row["excused"]) == ("queued", 1, 1)
        assert row["error"].startswith("database: ")
        await jobs.sql("UPDATE job SET next_try_at = now()")
        await runner.run(ids[0])
        assert await jobs.states() == {"succeeded": 2}
        (await jobs.job_ledger("jobs: the database dies under them")).assert_clean()

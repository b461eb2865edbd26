"""PostgreSQL is restarted, away, silent, and its connections break at the worst moments, under schedulers."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from support.cron_scene import CronScene, ticks_of
from support.proxy import FaultProxy
from support.servers import PostgresServer
from support.wait import eventually, stays


async def until_second(cron: CronScene, fraction: float = 0.0) -> None:
    """Wait for the beginning of a second of the database's clock, or a part of one later."""
    now = await cron.now()
    await asyncio.sleep(1 - now.microsecond / 1e6 + fraction)


async def test_restarted_at_the_tick(cron_own_postgres: CronScene, own_postgres: PostgresServer) -> None:
    cron = cron_own_postgres
    since = await cron.begin()
    cron.do("sleep 0.3")
    schedulers = [await cron.scheduler().until_ready(), await cron.scheduler().until_ready()]
    await cron.until_done(ticks_of(since, 2))
    # When it is restarted just as a tick comes due, and again in the middle of a run
    for fraction in (0.0, 0.15):
        await until_second(cron, fraction)
        await asyncio.to_thread(own_postgres.restart)
        begun = len(cron.started())
        await eventually(lambda: len(cron.started()) > begun, 60, "it goes on")  # noqa: B023
    # Then every tick has one effect, and no attempt was used up
    ticks = ticks_of(since, 15)
    await cron.until_done(ticks)
    rows = await cron.runs()
    assert max(row["attempt"] - row["excused"] for row in rows) == 1
    assert all(worker.running for worker in schedulers)
    (await cron.tick_ledger("PostgreSQL restarted at the tick", ticks)).assert_clean()


async def test_down_over_three_ticks(cron_own_postgres: CronScene, own_postgres: PostgresServer) -> None:
    cron = cron_own_postgres
    # Given two schedulers, and a run that goes on
    since = await cron.begin()
    cron.do("sleep 60")
    workers = [await cron.scheduler().until_ready(), await cron.scheduler().until_ready()]
    await eventually(lambda: len(cron.started()) == 1, 30)
    (start,) = cron.started()
    # When PostgreSQL is away for longer than the lease of that run, and for many ticks
    await asyncio.to_thread(own_postgres.stop)
    cron.do("well")
    await eventually(lambda: not any(worker.ready() for worker in workers), 15, "readiness turns red")
    await stays(lambda: all(worker.running for worker in workers), 6)
    await asyncio.to_thread(own_postgres.start)
    # Then all is made up, and the run that was interrupted has used up no attempt
    ticks = ticks_of(since, 20)
    await cron.until_done(ticks)
    row = await cron.run_of(start.tick.due)
    assert row["attempt"] - row["excused"] == 1
    for worker in workers:
        await worker.until_ready(10)
    (await cron.tick_ledger("PostgreSQL down over more than three ticks", ticks)).assert_clean()


async def test_silent(cron_own_postgres: CronScene, own_postgres: PostgresServer) -> None:
    cron = cron_own_postgres
    since = await cron.begin()
    workers = [await cron.scheduler().until_ready(), await cron.scheduler().until_ready()]
    await cron.until_done(ticks_of(since, 2))
    # Given a database that stops answering with its sockets open
    own_postgres.pause()
    await eventually(lambda: not any(worker.ready() for worker in workers), 30, "readiness turns red")
    await stays(lambda: all(worker.running for worker in workers), 5)
    own_postgres.resume()
    # Then all is made up, and it goes on
    ticks = ticks_of(since, int((await cron.now()).timestamp()) - since + 3)
    await cron.until_done(ticks, 90)
    (await cron.tick_ledger("PostgreSQL silent", ticks)).assert_clean()


@pytest.fixture
def proxied(cron: CronScene, postgres: PostgresServer) -> Iterator[tuple[CronScene, FaultProxy]]:
    """A scene whose schedulers reach PostgreSQL through a proxy."""
    with FaultProxy(postgres.port) as proxy:
        cron.settings["DATABASE_URL"] = proxy.url(cron.postgres_url)
        yield cron, proxy


async def test_commit_done_and_answer_lost(proxied: tuple[CronScene, FaultProxy]) -> None:
    cron, proxy = proxied
    # Given connections that break after the server has committed; six times, be it a plan, a claim or a run
    since = await cron.begin()
    await cron.scheduler().until_ready()
    await cron.scheduler().until_ready()
    proxy.close_after(b"COMMIT", "to_client", times=6)
    ticks = ticks_of(since, 15)
    await cron.until_done(ticks)
    # Then what is committed is not done again
    assert proxy.triggered.is_set()
    (await cron.tick_ledger("commit done, answer lost, 6 times", ticks)).assert_clean()


async def test_answer_to_the_commit_of_a_run_lost(proxied: tuple[CronScene, FaultProxy]) -> None:
    cron, proxy = proxied
    # Given a run whose commit arrives and whose answer does not (three times, for the scheduler's own commits
    # may come in between)
    since = await cron.begin()
    cron.do("wait")
    worker = await cron.scheduler().until_ready()
    await eventually(lambda: len(cron.started()) == 1, 30)
    (start,) = cron.started()
    cron.do("well")
    proxy.close_after(b"COMMIT", "to_client", times=3)
    cron.release()
    # Then its scheduler takes it for undone, and it is not done again
    told = f"cron job faulty {datetime.fromtimestamp(start.tick.due, UTC):%FT%TZ}, attempt 1: Down("
    await eventually(lambda: told in worker.log_text(), 20)
    ticks = ticks_of(since, 8)
    await cron.until_done(ticks)
    assert (await cron.run_of(start.tick.due))["state"] == "succeeded"
    assert Counter(start.tick for start in cron.started())[start.tick] == 1
    (await cron.tick_ledger("a run's commit done, answer lost", ticks)).assert_clean()


async def test_connection_lost_before_the_commit(proxied: tuple[CronScene, FaultProxy]) -> None:
    cron, proxy = proxied
    # Given connections that break when COMMIT is sent, before the server gets it; six times
    since = await cron.begin()
    await cron.scheduler().until_ready()
    proxy.close_after(b"COMMIT", "to_server", times=6)
    ticks = ticks_of(since, 15)
    await cron.until_done(ticks)
    # Then the work is rolled back and done again, without using up an attempt
    assert proxy.triggered.is_set()
    rows = await cron.runs()
    assert max(row["attempt"] - row["excused"] for row in rows) <= 2
    (await cron.tick_ledger("connection lost before the commit, 6 times", ticks)).assert_clean()


async def test_a_scheduler_that_is_cut_off_stops_what_it_runs(
    proxied: tuple[CronScene, FaultProxy],
) -> None:
    cron, proxy = proxied
    # Given a scheduler in a long run that is cut off from the database, and another one that is not
    since = await cron.begin()
    cron.do("sleep 60")
    first = await cron.scheduler().until_ready()
    await eventually(lambda: len(cron.started()) == 1, 30)
    (start,) = cron.started()
    cron.do("well")
    proxy.half_open()
    cron.scheduler(DATABASE_URL=cron.postgres_url)
    # Then the other takes over, and the first stops its run
    await cron.until_done({start.tick}, 30)
    await eventually(lambda: "its lease could not be renewed" in first.log_text(), 40)
    # And when it is back it goes on as if nothing had been
    proxy.reset_connections()
    proxy.pass_through()
    await first.until_ready(40)
    ticks = ticks_of(since, 20)
    await cron.until_done(ticks)
    (await cron.tick_ledger("a scheduler cut off in a run", ticks)).assert_clean()


async def test_runs_that_use_up_the_pool_keep_their_leases(cron: CronScene) -> None:
    # Given more long runs than there are connections
    jobs = [f"many_{number:03}" for number in range(4)]
    await cron.begin(*jobs, schedule="every 1:00:00")
    cron.settings |= {"FAULTY_JOBS": "4", "FAULTY_EVERY": "3600"}
    cron.settings |= {"DB_POOL_SIZE": "3", "DB_MAX_OVERFLOW": "0", "DB_POOL_TIMEOUT": "2"}
    cron.do("sleep 8")
    pool = {"DB_POOL_SIZE": "3"}
    await cron.scheduler("many_jobs", **pool).until_ready()
    await cron.scheduler("many_jobs", **pool).until_ready()
    for job in jobs:
        await cron.sql(
            "INSERT INTO cron_run (job, due_at, trigger, state, next_try_at, deadline_at)"
            " VALUES ($1, now(), 'manual', 'waiting', now(), now() + interval '1 min')",
            job,
        )

    async def all_done() -> bool:
        return len(await cron.ticks_done()) == 4

    # Then each is started once, although they take longer than twice the lease
    await eventually(all_done, 90)
    assert len(cron.started()) == 4

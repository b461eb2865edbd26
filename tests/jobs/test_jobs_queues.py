"""Jobs and plain tasks side by side: queues with workers of their own, priorities, Redis failing over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
from redis import Redis

from app.core.job import JobKind, submit
from app.core.outbox import enqueue
from support.job_scene import OWNER, JobScene, Work, elsewhere, scene_at
from support.producer import Sessions, produce, sessions_for
from support.producer import Work as PlainWork
from support.proxy import FaultProxy
from support.servers import RedisServer
from support.wait import eventually
from support.workers import WorkerProcess

SLOW: JobKind[Work] = JobKind("test.work.v1", Work, elsewhere, queue="slow")
BESIDE = "celery_relay job_dispatcher"


async def send_slowly(jobs: JobScene, sessions: Sessions) -> tuple[list[int], list[int]]:
    """Eight jobs and a task for the queue `slow`; all orders, and those of the two jobs that go first."""
    *orders, plain = await jobs.orders(9)
    async with sessions.begin() as session:
        for number, order in enumerate(orders):
            priority = 9 if number >= 6 else 0
            await submit(session, SLOW, Work(order_id=order), owner=OWNER, priority=priority)
        await enqueue(session, "shop.slow.v1", PlainWork(order_id=plain))
    jobs.accepted += [*orders, plain]
    return [*orders, plain], orders[6:]


def pids(worker: WorkerProcess) -> set[int]:
    """The processes of a worker."""
    return {child.pid for child in psutil.Process(worker.pid).children(recursive=True)}


async def test_queues_of_their_own_and_priorities(jobs_redis: JobScene, own_redis: RedisServer) -> None:
    jobs = jobs_redis
    jobs.settings |= {"CELERY_QUEUES": "tasks,slow", "JOB_LEASE_SECONDS": "30"}
    async with sessions_for(jobs.postgres_url) as sessions:
        # Given slow work in a queue of its own, and work for the workers of the default queue
        slow, urgent = await send_slowly(jobs, sessions)
        await jobs.submit_many(10)
        await produce(jobs, sessions, await jobs.orders(10))
        # When all are started before the broker is
        own_redis.kill()
        quick = jobs.celery("-Q", "tasks", "-c", "1")
        jobs.worker(BESIDE)
        await eventually(lambda: "Cannot connect" in quick.log_text(), 60, "the worker waits")
        await asyncio.to_thread(own_redis.start)
        # Then those of the default queue do their own, and leave the slow work alone
        await jobs.until_processed(set(jobs.accepted) - set(slow), 90)
        assert {pid for _, _, pid in jobs.starts()} <= pids(quick)
        # When the slow ones get a worker
        jobs.celery("-Q", "slow", "-c", "1")
        await jobs.until_processed(slow, 90)
    # Then it has begun with the most urgent, though they came last
    started = [order for order, _, pid in jobs.starts() if pid not in pids(quick)]
    assert set(started) == set(slow)
    assert set([order for order in started if order != slow[-1]][:2]) == set(urgent)
    (await jobs.job_ledger("jobs and tasks: queues with workers of their own")).assert_clean()


@asynccontextmanager
async def replicated() -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    """A Redis and its replica, up to date."""
    at_once = {"repl-diskless-sync-delay": "0"}
    with RedisServer(appendonly=False, options=at_once) as first, RedisServer(appendonly=False) as second:
        with Redis.from_url(second.url) as replica:
            replica.replicaof(first.host, str(first.port))
            await eventually(lambda: replica.info("replication")["master_link_status"] == "up", 60)
        yield first, second


def promote(replica: RedisServer) -> None:
    """Make a replica a master: it hears no more of the former one."""
    with Redis.from_url(replica.url) as client:
        client.replicaof("NO", "ONE")


async def all_sent(jobs: JobScene) -> bool:
    """Whether the broker has confirmed every message."""
    waiting = await jobs.sql(
        "SELECT 1 FROM job WHERE sent_at IS NULL UNION ALL SELECT 1 FROM outbox_message WHERE sent_at IS NULL"
    )
    return not waiting


async def test_a_replica_that_lacks_the_last_messages_takes_over(postgres_url: str) -> None:
    async with replicated() as (former, replica), sessions_for(postgres_url) as sessions:
        with FaultProxy(former.port) as proxy:
            async with scene_at(postgres_url, proxy.url(former.url)) as jobs:
                # Given jobs and tasks that were done
                jobs.worker(BESIDE)
                worker = jobs.celery("-c", "1")
                await jobs.submit_many(5)
                await produce(jobs, sessions, await jobs.orders(5))
                await jobs.until_processed(jobs.accepted, 90)
                worker.kill9()
                # When more are sent, of which the replica hears nothing, and it takes over
                promote(replica)
                await jobs.submit_many(20)
                await produce(jobs, sessions, await jobs.orders(20))
                await eventually(lambda: all_sent(jobs), 60, "all are confirmed")
                proxy.lead_to(replica.port)
                await asyncio.to_thread(former.kill)
                jobs.celery(supervised=True)
                # Then all are done, once
                await jobs.until_processed(jobs.accepted, 90)
                (await jobs.job_ledger("jobs and tasks: Redis fails over, 40 messages lost")).assert_clean()

"""Jobs that Celery brings to workers: whatever dies, each is done once, and soon."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis

from app.core import job_manage
from app.core.job import JobKind
from support.job_scene import OWNER, JobScene, Work, elsewhere, scene_at
from support.servers import RedisServer
from support.wait import eventually

POISON: JobKind[Work] = JobKind("test.work.v1", Work, elsewhere, attempts=2)


async def until_done(jobs: JobScene, deadline_s: float = 90) -> None:
    """Wait until all that was accepted has succeeded."""
    await jobs.until_state("succeeded", len(jobs.accepted), deadline_s)


@contextmanager
def queue_of(jobs: JobScene) -> Iterator[tuple[Redis, str]]:
    """The list in Redis that holds the messages."""
    with Redis.from_url(jobs.broker_url) as client:
        yield client, "celery:tasks"


async def test_machines_die(jobs_redis: JobScene) -> None:
    jobs = jobs_redis
    # Given two machines and two dispatchers
    first, second = jobs.celery(), jobs.celery()
    brief, _ = jobs.dispatcher(), jobs.dispatcher()
    await jobs.submit_many(20)
    await until_done(jobs)
    # When a child is killed in the middle of its job, then a dispatcher, and a machine with all it holds
    (killed,) = await jobs.submit_many(1, do="kill")
    await jobs.submit_many(6, do="sleep", seconds=2)
    await eventually(lambda: len(jobs.starts()) >= 25, 60)
    brief.kill9()
    first.kill9()
    await jobs.submit_many(10)
    # And a job kills everybody who touches it
    (poison,) = await jobs.submit_many(1, do="kill", times=99, kind=POISON)
    poisoned = jobs.accepted.pop()
    # Then all are done, once each, and the poison is set aside
    await until_done(jobs)
    assert (await jobs.row(killed))["attempt"] >= 2
    await jobs.until_state("failed")
    row = await jobs.row(poison)
    assert row["error"] == "started 2 times and never finished: it may kill its worker"
    assert [order for order, _, _ in jobs.starts()].count(poisoned) == 2
    (letter,) = await jobs.sql("SELECT * FROM dead_letter")
    assert (letter["source"], letter["message_id"], letter["attempts"]) == ("job", str(poison), 2)
    assert second.running
    ledger = await jobs.job_ledger("jobs: a child, a dispatcher, a machine killed")
    ledger.assert_clean()
    assert ledger.recovered >= 2
    assert jobs.loop_trouble() == []


async def test_redis_comes_back_empty(own_redis: RedisServer, postgres_url: str) -> None:
    async with scene_at(postgres_url, own_redis.url) as jobs:
        # Given a job that runs, others that wait behind it, and one whose message gets lost on the way
        worker = jobs.celery("-c", "1", supervised=True)
        jobs.dispatcher()
        await jobs.submit_many(1, do="sleep", seconds=4)
        await jobs.until_state("running")
        await jobs.submit_many(10)
        # When Redis dies and comes back empty, and jobs are accepted meanwhile
        own_redis.kill()
        await jobs.submit_many(5)
        own_redis.restart_empty()
        # Then all are done, without a person
        await until_done(jobs)
        assert worker.running
        (await jobs.job_ledger("jobs: Redis came back empty")).assert_clean()


async def test_a_lost_message(jobs_redis: JobScene) -> None:
    jobs = jobs_redis
    # Given a queue whose messages vanish before anybody has seen them
    jobs.dispatcher()
    await jobs.submit_many(3)

    with queue_of(jobs) as (redis, queue):
        await eventually(lambda: redis.llen(queue) >= 3, 60)
        redis.delete(queue)
    # When a worker starts, and another job comes
    jobs.celery("-c", "1")
    await jobs.submit_many(1)
    # Then the lost ones are done, too
    await until_done(jobs)
    (await jobs.job_ledger("jobs: messages lost in the broker")).assert_clean()


async def test_a_late_finisher_is_fenced(jobs_redis: JobScene) -> None:
    jobs = jobs_redis
    # Given a worker that freezes in the middle of its transaction, with the effect written and a row locked
    frozen = jobs.celery("-c", "1", FAULTY_TIMEOUT="120")
    jobs.dispatcher()
    (id_,) = await jobs.submit_many(1, do="late")
    await eventually((jobs.folder / "waiting").exists, 60)
    frozen.pause()
    # When another takes the job over, and the first one goes on
    jobs.celery("-c", "1")
    await until_done(jobs)
    jobs.release()
    frozen.resume()
    await eventually(lambda: "no longer ours" in frozen.log_text(), 60)
    # Then there is one effect
    row = await jobs.row(id_)
    assert row["state"] == "succeeded"
    assert row["attempt"] >= 2
    (await jobs.job_ledger("jobs: a frozen worker finishes late")).assert_clean()


async def test_cancel_and_hand_back(jobs_redis: JobScene) -> None:
    jobs = jobs_redis
    jobs.settings |= {"JOB_LEASE_SECONDS": "30"}
    jobs.dispatcher()
    # Given a job that waits, and is cancelled before there is a worker
    (waits,) = await jobs.submit_many(1)
    never = jobs.accepted.pop()
    await job_manage.cancel(waits, OWNER)
    worker = jobs.celery("-c", "1")
    # And one that runs and is cancelled
    (runs,) = await jobs.submit_many(1, do="wait", times=9)
    jobs.accepted.pop()
    await jobs.until_state("running")
    await job_manage.cancel(runs, OWNER)
    await jobs.until_state("cancelled", 2)
    assert (jobs.folder / "cancelled").exists()
    assert never not in {order for order, _, _ in jobs.starts()}
    # When the worker has to end, and its job takes longer than it may
    (id_,) = await jobs.submit_many(1, do="sleep", seconds=15)
    await jobs.until_state("running")
    worker.sigterm(60)
    # Then another one does it
    jobs.celery("-c", "1")
    await until_done(jobs)
    row = await jobs.row(id_)
    assert (row["attempt"], row["excused"]) == (2, 1)
    (await jobs.job_ledger("jobs: a worker ends, a job is handed on")).assert_clean()


async def test_a_hang(jobs_redis: JobScene) -> None:
    jobs = jobs_redis
    # Given a job that blocks its process for ever, where Celery's limits are short
    limits: dict[str, Any] = {
        "WORKER_HANDLER_TIMEOUT_SECONDS": "1",
        "FAULTY_TIMEOUT": "1",
        "CELERY_SOFT_TIME_LIMIT_SECONDS": "6",
        "CELERY_TIME_LIMIT_SECONDS": "11",
    }
    worker = jobs.celery("-c", "1", **limits)
    jobs.dispatcher(**limits)
    await jobs.submit_many(1, do="block", seconds=600)
    # Then the process is ended, the worker stays, and the job is done at its second attempt
    await until_done(jobs)
    assert worker.running
    assert len({pid for _, _, pid in jobs.starts()}) == 2
    # And the worker does the next one
    await jobs.submit_many(1)
    await until_done(jobs)
    (await jobs.job_ledger("jobs: one hangs for ever")).assert_clean()


async def test_retries_wait_in_the_table(jobs_redis: JobScene) -> None:
    jobs = jobs_redis
    # Given fifty jobs that fail three times each, and two at once in one event loop
    jobs.settings |= {"JOB_LEASE_SECONDS": "30"}
    jobs.celery(pool="threads")
    jobs.dispatcher()
    await jobs.submit_many(50, do="flap", times=3)
    await until_done(jobs)
    # Then each was started four times: no hot loop, and nobody held a worker meanwhile
    assert len(jobs.starts()) == 200
    assert jobs.loop_trouble() == []
    (await jobs.job_ledger("jobs: a storm of retries")).assert_clean()
    with queue_of(jobs) as (redis, queue):
        await eventually(lambda: redis.llen(queue) == 0, 60, "no message is left over")


async def test_settings_that_would_give_work_away(jobs: JobScene) -> None:
    wrong: dict[str, Any] = {"JOB_LEASE_SECONDS": "2", "JOB_POLL_SECONDS": "1"}
    processes = jobs.celery(**wrong), jobs.dispatcher(**wrong)
    await eventually(lambda: not any(process.running for process in processes), 60)
    for process in processes:
        assert process.returncode == 78
        assert "JOB_LEASE_SECONDS=2: at least 3 times JOB_POLL_SECONDS" in process.log_text()


async def test_through_rabbitmq(rabbit_url: str, postgres_url: str) -> None:
    async with scene_at(postgres_url, rabbit_url) as jobs:
        # Given two machines, of which one dies with jobs in its hands
        first, _ = jobs.celery(), jobs.celery()
        jobs.dispatcher()
        await jobs.submit_many(10)
        await jobs.submit_many(4, do="sleep", seconds=1)
        await eventually(lambda: len(jobs.starts()) >= 12, 60)
        first.kill9()
        await jobs.submit_many(5)
        # Then all are done, once each
        await until_done(jobs)
        (await jobs.job_ledger("jobs: a machine killed, RabbitMQ")).assert_clean()

"""Calls of language models while workers, the database and the provider break."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import pytest

from app.core.llm_usage import usage_of
from support.job_scene import OWNER, JobScene, scene_at
from support.llm_scene import LlmScene
from support.llm_server import running_llm
from support.servers import PostgresServer
from support.wait import eventually, stays


@pytest.fixture
async def llm(jobs: JobScene) -> AsyncIterator[LlmScene]:
    async with running_llm() as server:
        yield LlmScene(jobs, server)


async def test_workers_are_killed_frozen_and_stopped_in_the_middle_of_streams(llm: LlmScene) -> None:
    # Given two workers, each in the middle of as many answers as it may have
    llm.llm.hold()
    victim, other = llm.worker(JOB_CONCURRENCY="15"), llm.worker(JOB_CONCURRENCY="15")
    await victim.until_ready()
    await other.until_ready()
    ids = [await llm.submit() for _ in range(30)]
    await eventually(lambda: llm.llm.in_flight == 30, 60)
    # When one is killed, the next one frozen until its lease is over, and then told to stop
    other.pause()
    victim.kill9()
    third = llm.worker()
    await third.until_ready()
    llm.llm.release()
    await llm.jobs.until_state("succeeded", 30, deadline_s=90)
    other.resume()
    await stays(lambda: other.running, 1)
    assert other.sigterm() == 0
    assert third.sigterm() == 0
    # Then each document has its one summary, and all that was paid for is on record
    (await llm.ledger("llm: a worker is killed and one frozen in mid-stream")).assert_clean()
    for id_ in ids:
        usage = await usage_of(id_, OWNER)
        events = await llm.events(id_)
        assert [kind for _, kind, _ in events].count("answered") == 1
        assert usage.calls == [kind for _, kind, _ in events].count("started")
    calls = await llm.jobs.sql("SELECT count(*) FROM job_event WHERE type = 'started'")
    assert calls[0][0] <= len(llm.llm.calls)


async def test_sigterm_in_the_middle_of_calls_uses_up_no_attempt(llm: LlmScene) -> None:
    llm.llm.hold()
    worker = await llm.worker(WORKER_DRAIN_SECONDS="0.5", JOB_LEASE_SECONDS="60").until_ready()
    for _ in range(10):
        await llm.submit()
    await eventually(lambda: llm.llm.in_flight == 10, 60)
    assert worker.sigterm() == 0
    rows = await llm.jobs.sql("SELECT state, attempt - excused AS counted FROM job")
    assert {tuple(row) for row in rows} == {("queued", 0)}
    assert all(call.dropped for call in llm.llm.calls)
    llm.llm.release()
    await llm.worker().until_ready()
    await llm.jobs.until_state("succeeded", 10, deadline_s=60)
    (await llm.ledger("llm: SIGTERM in mid-stream")).assert_clean()


async def test_a_storm_of_refusals_over_500_jobs(llm: LlmScene) -> None:
    # Given a provider that takes 100 calls at a time, refuses the rest, and has a bad time altogether
    llm.llm.most, llm.llm.pause = 100, 0.02
    bad = [
        "500 api_error",
        "529 overloaded_error 1",
        "cut",
        "broken",
        "error overloaded_error",
        "200 api_error",
    ]
    llm.llm.script = deque(bad * 5)
    for start in range(0, 500, 50):
        await asyncio.gather(*(llm.submit(f"owner-{number % 7}") for number in range(start, start + 50)))
    settings = {"JOB_CONCURRENCY": "150", "JOB_PER_OWNER": "1000", "JOB_LIMITS": '{"llm": 200}'}
    settings["JOB_LEASE_SECONDS"] = "60"  # a call whose lease is over would be made twice at once
    workers = [llm.worker(**settings) for _ in range(2)]
    for worker in workers:
        await worker.until_ready()
    await llm.jobs.until_state("succeeded", 500, deadline_s=150)
    # Then none has failed, and none was asked more often at once than the limit says
    assert llm.llm.peak <= 200
    (await llm.ledger("llm: 429 and worse over 500 jobs")).assert_clean()


async def test_the_database_is_restarted_in_mid_stream(
    own_postgres: PostgresServer, own_postgres_url: str
) -> None:
    async with scene_at(own_postgres_url) as jobs, running_llm() as server:
        llm = LlmScene(jobs, server, {"JOB_LEASE_SECONDS": "15"})
        server.hold()
        await llm.worker().until_ready()
        for _ in range(20):
            await llm.submit()
        await eventually(lambda: server.in_flight == 20, 60)
        # When the database dies, the answers come in, and it comes back
        own_postgres.kill()
        server.release()
        await eventually(lambda: server.in_flight == 0, 60)
        own_postgres.start()
        await jobs.until_state("succeeded", 20, deadline_s=90)
        # Then no answer was lost
        assert len(server.calls) == 20
        (await llm.ledger("llm: the database dies in mid-stream")).assert_clean()

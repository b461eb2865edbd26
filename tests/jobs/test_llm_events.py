"""Followers of jobs, over HTTP: every event once and in order, however often the connection breaks."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress

import httpx2
import pytest
from starlette.types import Message

from app.api.job_events import EventStream
from app.core import job_follow
from support.job_api import app
from support.job_scene import JobScene
from support.llm_scene import LlmScene, Seen, following, once, told
from support.llm_server import running_llm
from support.wait import eventually
from support.workers import WorkerProcess

# uvicorn ends as the signal would have ended it.
STOPPED = -signal.SIGTERM
LONG = tuple(f"word-{number} " for number in range(60))


@pytest.fixture
async def llm(jobs: JobScene) -> AsyncIterator[LlmScene]:
    async with running_llm() as server:
        yield LlmScene(jobs, server)


async def all_of(client: httpx2.AsyncClient, id_: uuid.UUID, after: str | None = None) -> list[Seen]:
    """What a client sees until the end."""
    async with following(client, id_, after) as events:
        return [event async for event in events]


async def test_a_job_is_submitted_followed_and_its_usage_shown(llm: LlmScene) -> None:
    process, client = await llm.api("--timeout-graceful-shutdown", "1")
    await llm.worker().until_ready()
    llm.llm.pause = 0.05
    async with client:
        # When it is submitted twice with one key
        body, key = {"document_id": await llm.document()}, {"Idempotency-Key": "k"}
        answers = [await client.post("/summaries", json=body, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].content == answers[1].content
        id_ = uuid.UUID(answers[0].json()["id"])
        # Then two readers see the tokens come, and the end
        first, second = await asyncio.wait_for(asyncio.gather(all_of(client, id_), all_of(client, id_)), 60)
        assert first == second
        assert first[0].type == "started"
        assert [event.type for event in first][-2:] == ["answered", "end"]
        assert {event.type for event in first[1:-2]} == {"delta"}
        assert told(first) == llm.llm.text == first[-2].data["text"]
        assert once(first)
        assert first[-1].data == {"state": "succeeded", "error": None}
        # And from every event on it can be followed again
        for seen, event in enumerate(first[:-1], start=1):
            assert await all_of(client, id_, event.id) == first[seen:]
            response = await client.get(f"/jobs/{id_}/events", params={"after": event.id})
            assert response.text.count("event: ") == len(first) - seen
        # And whoever has seen the end need not come again
        response = await client.get(f"/jobs/{id_}/events", headers={"Last-Event-ID": first[-1].id})
        assert (response.status_code, response.content) == (204, b"")
        usage = (await client.get(f"/jobs/{id_}/usage")).json()
        assert usage == {"calls": 1, "input_tokens": 11, "output_tokens": 6, "cost": 123, "exact": True}
        # And it is nobody else's business
        for path in ("events", "usage"):
            response = await client.get(f"/jobs/{id_}/{path}", headers={"X-User": "mallory"})
            assert response.status_code == 404
        for wrong in ("x", "-1", "9" * 30, "1-END"):
            response = await client.get(f"/jobs/{id_}/events", params={"after": wrong})
            assert response.status_code == 422
    assert process.sigterm() == STOPPED


async def test_a_cancelled_job_ends_its_streams(llm: LlmScene) -> None:
    process, client = await llm.api("--timeout-graceful-shutdown", "1")
    async with client:
        # Given one that waits and one that runs
        waits = await llm.submit()
        reader = asyncio.ensure_future(all_of(client, waits))
        await client.delete(f"/jobs/{waits}")
        (end,) = await asyncio.wait_for(reader, 60)
        assert (end.type, end.data["state"]) == ("end", "cancelled")
        await llm.worker().until_ready()
        llm.llm.hold()
        runs = await llm.submit()
        async with following(client, runs) as events:
            seen = [await anext(events)]
            while seen[-1].type != "delta":
                seen.append(await anext(events))
            await client.delete(f"/jobs/{runs}")
            async with asyncio.timeout(60):
                seen += [event async for event in events]
        assert [event.type for event in seen][-2:] == ["broken_off", "end"]
        assert seen[-1].data["state"] == "cancelled"
        assert llm.llm.calls[0].dropped
        assert llm.llm.text.startswith(told(seen))
    assert process.sigterm() == STOPPED


async def test_clients_go_on_when_an_api_and_a_worker_are_killed(llm: LlmScene) -> None:
    # Given answers of which a third has come, in several events
    llm.llm.pause, llm.llm.tokens = 0.05, LONG
    llm.llm.hold(23)
    third = "".join(LONG[:20])
    apis = [await llm.api("--timeout-graceful-shutdown", "1") for _ in range(2)]
    worker = await llm.worker().until_ready()
    ids = [await llm.submit() for _ in range(5)]

    async def follow(id_: uuid.UUID, seen: list[Seen]) -> None:
        turn = 0
        while not seen or seen[-1].type != "end":
            client, turn = apis[turn % 2][1], turn + 1
            with suppress(httpx2.HTTPError):
                async with following(client, id_, seen[-1].id if seen else None) as events:
                    async for event in events:
                        seen.append(event)  # noqa: PERF401  # what came before it breaks counts
            await asyncio.sleep(0.05)

    found: list[list[Seen]] = [[] for _ in ids for _ in range(4)]
    readers = [asyncio.ensure_future(follow(ids[at // 4], seen)) for at, seen in enumerate(found)]
    # When the API that serves them is killed, and then the worker
    await eventually(lambda: min(map(len, found)) > 1, 60)
    apis[0][0].kill9()
    await eventually(lambda: all(told(seen) == third for seen in found), 60)
    worker.kill9()
    llm.llm.pause = 0
    llm.llm.release()
    await llm.worker().until_ready()
    await asyncio.wait_for(asyncio.gather(*readers), 90)
    # Then nobody has missed anything or seen it twice
    for seen in found:
        assert once(seen)
        assert told(seen) == llm.llm.text
        assert [event.type for event in seen].count("started") == 2
    for number, id_ in enumerate(ids):
        stored = [str(event) for event, _, _ in await llm.events(id_)]
        assert all([event.id for event in seen[:-1]] == stored for seen in found[4 * number : 4 * number + 4])
    for _, client in apis:
        await client.aclose()
    (await llm.ledger("llm: an API and a worker are killed while clients follow")).assert_clean()


async def test_many_readers_hold_no_connection_and_no_memory(llm: LlmScene) -> None:
    # Given an API with two connections, and a job that has said a lot
    llm.settings |= {"DB_POOL_SIZE": "2", "DB_MAX_OVERFLOW": "0", "DB_POOL_TIMEOUT": "5"}
    process, client = await llm.api("--timeout-graceful-shutdown", "1")
    id_ = await llm.submit()
    await llm.jobs.sql(
        """INSERT INTO job_event (job_id, id, type, data)
           SELECT $1, n, 'number', jsonb_build_object('n', n, 'text', repeat('x', 2000))
           FROM generate_series(1, 3000) AS n""",
        id_,
    )
    limits = httpx2.Limits(max_connections=None)
    slow = httpx2.AsyncClient(base_url=client.base_url, headers=client.headers, limits=limits, timeout=20)
    async with client, slow, AsyncExitStack() as streams:
        before = memory(process)
        # When 20 readers read the first event, and then nothing of six megabytes each
        for _ in range(20):
            events = await streams.enter_async_context(following(slow, id_))
            assert (await anext(events)).data["n"] == 1
        for _ in range(20):
            assert (await client.get(f"/jobs/{id_}")).status_code == 200
        grown = memory(process) - before
        assert grown < 60, f"{grown} MiB more"
        # Then one that reads gets everything, and the end as soon as there is one
        reader = asyncio.ensure_future(all_of(client, id_))
        await client.delete(f"/jobs/{id_}")
        seen = await asyncio.wait_for(reader, 60)
        assert [event.data["n"] for event in seen[:-1]] == list(range(1, 3001))
        assert seen[-1].data["state"] == "cancelled"
        # And the open streams do not hold up the shutdown
        assert process.sigterm(timeout=60) == STOPPED


async def test_a_quiet_stream_shows_that_it_lives_and_ends_with_its_job(
    llm: LlmScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_follow, "PING_EVERY", 0.1)
    followers, id_ = job_follow.Followers(), await llm.submit()
    async with asyncio.timeout(60), aclosing(followers.follow(id_)) as events:
        assert [await anext(events) for _ in range(2)] == [None, None]
        await llm.jobs.sql("DELETE FROM job")
        assert [event async for event in events if event is not None] == []
    await followers.close()


async def test_a_stream_is_closed_when_its_client_goes_while_it_is_slow() -> None:
    gone, closed = asyncio.Event(), []

    async def lines() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b": ping\n\n"
        finally:
            closed.append("at once")

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            gone.set()
            await asyncio.Event().wait()

    await asyncio.wait_for(EventStream(lines())({"type": "http"}, receive, send), 60)
    assert closed == ["at once"]


def test_the_route_is_described_as_a_stream_of_events() -> None:
    content = app.openapi()["paths"]["/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    schema = content.pop("text/event-stream")["itemSchema"]
    assert (content, schema["properties"].keys()) == ({}, {"data", "event", "id", "retry"})


def memory(process: WorkerProcess) -> int:
    """MiB that a process uses."""
    with open(f"/proc/{process.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096 >> 20

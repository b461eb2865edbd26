"""Streams of a job's events: a server that waits for them for ever, and text of all kinds."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import pytest

from support.job_scene import JobScene
from support.llm_scene import LlmScene, following
from support.llm_server import running_llm
from support.wait import eventually, stays

STOPPED = -signal.SIGTERM
# What ends a line for one reader or another, and what looks like a field.
TEXT = 'one\n\ndata: two\r\nid: 9\r\revent: end\u2028\u2029\x85 "quoted" \\n Zo\u00eb'


@pytest.fixture
async def llm(jobs: JobScene) -> AsyncIterator[LlmScene]:
    async with running_llm() as server:
        yield LlmScene(jobs, server)


async def test_without_a_bound_one_reader_holds_up_a_shutdown(llm: LlmScene) -> None:
    # The wrong form: uvicorn without --timeout-graceful-shutdown. With it, the 20 readers of
    # test_many_readers_hold_no_connection_and_no_memory hold up nothing.
    process, client = await llm.api()
    id_ = await llm.submit()
    async with client:
        async with following(client, id_):
            process.send(signal.SIGTERM)
            await eventually(lambda: "Waiting for connections to close" in process.log_text(), 60)
            await stays(lambda: process.running, 3)
        # It ends when its reader goes
        assert await asyncio.to_thread(process.wait, 60) == STOPPED


async def test_text_comes_as_it_was(llm: LlmScene) -> None:
    _, client = await llm.api("--timeout-graceful-shutdown", "1")
    id_ = await llm.submit()
    insert = "INSERT INTO job_event (job_id, id, type, data) VALUES ($1, 1, 'delta', $2)"
    await llm.jobs.sql(insert, id_, json.dumps({"text": TEXT}))
    async with client:
        await client.delete(f"/jobs/{id_}")
        async with following(client, id_) as events:
            found = [event async for event in events]
    assert [event.type for event in found] == ["delta", "end"]
    assert found[0].data == {"text": TEXT}

"""The clients of examples/clients, as a user runs them: connections break, and Ctrl-C cancels."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from support.binaries import node
from support.job_scene import OWNER, JobScene
from support.llm_scene import LlmScene
from support.llm_server import LlmServer
from support.proxy import FaultProxy
from support.wait import eventually
from support.workers import ROOT

CLIENTS = ROOT / "examples" / "clients"
WORDS = tuple(f"word-{number}\u2028 " for number in range(40))


@asynccontextmanager
async def running(jobs: JobScene, model: LlmServer) -> AsyncIterator[tuple[LlmScene, FaultProxy]]:
    """An API behind a proxy. No worker yet."""
    async with model:
        scene = LlmScene(jobs, model)
        _, client = await scene.api("--timeout-graceful-shutdown", "1")
        async with client:
            with FaultProxy(int(client.base_url.port or 0)) as proxy:
                yield scene, proxy


@asynccontextmanager
async def client_of(language: str, url: str, document: int) -> AsyncIterator[Process]:
    """A client that submits a job about a document."""
    who = f"X-User: {OWNER}"
    words = {
        "python": [sys.executable, str(CLIENTS / "follow.py"), "--header", who],
        "javascript": [str(node()), str(CLIENTS / "follow.mjs")],
    }[language]
    words += [f"{url}/summaries", json.dumps({"document_id": document})]
    words += [who] if language == "javascript" else []
    process = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_followed_over_broken_connections_and_cancelled(jobs: JobScene, language: str) -> None:
    async with running(jobs, LlmServer(tokens=WORDS, pause=0.5)) as (scene, proxy):
        url, document = f"http://{proxy.host}:{proxy.port}", await scene.document()
        # When the answer to the submission gets lost, and then the stream breaks again and again
        proxy.close_after(b"HTTP/1.1 202", "to_client")
        async with client_of(language, url, document) as client:
            assert await asyncio.to_thread(proxy.triggered.wait, 60)
            proxy.close_after(b"event: delta", "to_client", deliver=True, times=3)
            scene.worker()
            assert await asyncio.to_thread(proxy.triggered.wait, 60)
            scene.llm.pause = 0.05
            out, err = await asyncio.wait_for(client.communicate(), 90)
        # Then there is one job, and its text is there once, without a gap
        assert client.returncode == 0, err.decode()
        assert out.decode() == "".join(WORDS)
        assert "succeeded" in err.decode()
        assert await jobs.states() == {"succeeded": 1}
        assert len(scene.llm.calls) == 1
        assert proxy.accepted >= 3
        # When another one is interrupted in the middle
        scene.llm.tokens *= 100
        async with client_of(language, url, document) as client:
            assert client.stdout is not None
            assert await asyncio.wait_for(client.stdout.readexactly(6), 60) == b"word-0"
            client.send_signal(signal.SIGINT)
            await asyncio.wait_for(client.communicate(), 60)
        # Then its job is cancelled, and the model is no longer listened to
        assert client.returncode == 130
        await jobs.until_state("cancelled")
        await eventually(lambda: scene.llm.in_flight == 0, 30)

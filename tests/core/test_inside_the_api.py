"""What FastAPI does with work and start-up code in the API's own process; what `after_response` changes."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx2
import pytest
from anyio.to_thread import current_default_thread_limiter
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.testclient import TestClient

from app.core.after_response import after_response
from support.wait import eventually, stays


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    """A client in this process; a request of its ends when the work after the response has ended."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://shop", timeout=60)


async def test_plain_tasks_take_the_threads_of_plain_routes() -> None:
    # Given an API with two threads, and work after the response that takes its time
    app, threads, over, done = FastAPI(), current_default_thread_limiter(), threading.Event(), asyncio.Event()
    threads.total_tokens = 2

    @app.post("/wrong")
    async def wrong(tasks: BackgroundTasks) -> None:
        tasks.add_task(over.wait, 120)

    @app.post("/right")
    async def right(tasks: BackgroundTasks) -> None:
        after_response(tasks, linger)

    @app.get("/plain")
    def plain() -> str:
        return "here"

    begun: list[object] = []

    async def linger(session: object) -> None:
        begun.append(session)
        await done.wait()

    async with client_of(app) as client:
        # When it is plain functions
        try:
            busy = [asyncio.ensure_future(client.post("/wrong")) for _ in range(2)]
            await eventually(lambda: threads.borrowed_tokens == 2, 60)
            asking = asyncio.ensure_future(client.get("/plain"))
            # Then a plain route waits until they are over
            await stays(lambda: not asking.done(), 0.5)
        finally:
            over.set()
        assert (await asking).status_code == 200
        await asyncio.gather(*busy)
        # When it is as many of ours, each with a session of its own
        busy = [asyncio.ensure_future(client.post("/right")) for _ in range(3)]
        await eventually(lambda: len(begun) == 3, 60)
        # Then no route waits
        assert (await asyncio.wait_for(client.get("/plain"), 60)).json() == "here"
        assert len(set(map(id, begun))) == 3
        done.set()
        await asyncio.gather(*busy)


async def test_plain_tasks_are_lost_behind_one_that_fails_and_behind_a_yield() -> None:
    app, seen = FastAPI(), list[str]()

    async def note(name: str) -> None:
        seen.append(name)

    async def fail(*_: object) -> None:
        raise LookupError("no such cache")

    async def later(tasks: BackgroundTasks) -> AsyncIterator[None]:
        yield
        tasks.add_task(note, "added when the response was out")

    @app.post("/wrong")
    async def wrong(tasks: BackgroundTasks, _: Annotated[None, Depends(later)]) -> None:
        tasks.add_task(fail)
        tasks.add_task(note, "behind one that failed")

    @app.post("/right")
    async def right(tasks: BackgroundTasks) -> None:
        after_response(tasks, fail)
        after_response(tasks, lambda _: note("behind one of ours that failed"))

    async with client_of(app) as client:
        await client.post("/wrong")
        assert seen == []
        await client.post("/right")
    assert seen == ["behind one of ours that failed"]


def test_only_the_lifespan_is_run_and_only_when_it_is_entered() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        seen.append("lifespan")
        yield

    app = FastAPI(lifespan=lifespan)
    with pytest.warns(DeprecationWarning, match="lifespan"):
        app.on_event("startup")(lambda: seen.append("on_event"))
    TestClient(app).get("/openapi.json")
    assert seen == []
    with TestClient(app):
        pass
    assert seen == ["lifespan"]

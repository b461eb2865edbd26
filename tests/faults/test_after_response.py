"""Work after the response: it sees what the request committed, fails alone, and ends with the server."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx2
import pytest

from app.core import after_response
from support.ports import free_port
from support.wait import eventually
from support.workers import WorkerProcess


class Api:
    """The API of `support.after_api` as a process, its client, and what is in its database."""

    def __init__(self, url: str, *options: str) -> None:
        self._database = url.replace("+asyncpg", "")
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "uvicorn", "support.after_api:app", "--port", str(port), *options]
        self.process = WorkerProcess("api", {"DATABASE_URL": url}, command=command)

    async def post(self, path: str) -> int:
        """The status of the answer."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=30) as client:
            return (await client.post(path)).status_code

    async def names(self) -> set[str]:
        """All customers' names."""
        connection = await asyncpg.connect(self._database, timeout=30)
        try:
            return {row["name"] for row in await connection.fetch("SELECT name FROM customer")}
        finally:
            await connection.close()

    async def noted(self, name: str) -> None:
        """Wait for a customer of that name."""

        async def there() -> bool:
            return name in await self.names()

        await eventually(there, 30, name)


@asynccontextmanager
async def running(url: str, *options: str) -> AsyncIterator[Api]:
    """An API until the end of the block."""
    api = Api(url, *options)
    with api.process as process:
        await process.until_ready(url=f"{api.url}/health")
        yield api


async def test_after_the_commit_and_before_the_end(postgres_url: str) -> None:
    async with running(postgres_url) as api:
        # Given a request that writes, with two tasks, of which the first fails
        assert await api.post("/right/ann") == 201
        # Then the second one sees what was written, and the log has the error of the first
        await api.noted("ann was seen 1 times")
        assert "fail is lost, and not tried again" in api.process.log_text()
        assert "LookupError: no such cache" in api.process.log_text()
        # With FastAPI's default scope it comes before the commit
        assert await api.post("/wrong/bob") == 201
        await api.noted("bob was seen 0 times")
        await api.noted("bob")
        # When the server is told to stop in the middle of such work
        assert await api.post("/slow/cid?seconds=2") == 202
        api.process.send(signal.SIGTERM)
        # Then it ends after it
        await asyncio.to_thread(api.process.wait, 60)
        assert "cid" in await api.names()


async def test_a_server_that_cannot_wait_says_what_it_loses(postgres_url: str) -> None:
    async with running(postgres_url, "--timeout-graceful-shutdown", "0") as api:
        assert await api.post("/slow/dan?seconds=9") == 202
        api.process.send(signal.SIGTERM)
        await asyncio.to_thread(api.process.wait, 60)
        assert "linger is lost: the server stops" in api.process.log_text()
        assert "dan" not in await api.names()


async def test_it_does_not_take_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given work that hangs; its session is never used
    monkeypatch.setattr(after_response, "TIMEOUT_SECONDS", 0.05)

    async def hang(_session: object) -> None:
        await asyncio.Event().wait()

    # Then it is ended, and its end is an error in the log, not in the server
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(after_response.attempt(hang), 30)
    assert "hang is lost, and not tried again" in caplog.text

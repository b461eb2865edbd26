"""The stub of the outside world as a process."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.ports import free_port
from support.workers import ROOT, WorkerProcess
from world.client import World


@asynccontextmanager
async def running_world() -> AsyncIterator[World]:
    """A stub with no memories on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "world.stub:app", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    process = WorkerProcess("world", command=command, import_path=[ROOT / "examples"])
    with process:
        await process.until_ready(url=f"{url}/health")
        async with World(url) as world:
            yield world

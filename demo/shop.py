"""A copy of the sample shop that gets its workers the way a user's project does."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from demo.errors import DemoError
from demo.guard import ROOT
from demo.postgres import Postgres
from demo.process import Process, free_port, until
from demo.redis_server import RedisServer
from demo.stage import Stage

SERVICE = "app.services.orders:OrderService.mark_paid"
NOTICES = Path(__file__).with_name("notices.py")
START_SECONDS = 30.0
SOURCE = "/shop"
# A worker that was killed is missed after seconds, so that nobody has to wait; 15 and 5 are the defaults.
QUICK = {"WORKER_LEASE_SECONDS": "3", "WORKER_HEARTBEAT_SECONDS": "1"}
PAYMENT_SECONDS = 0.3  # as long as a call to somebody else
SLOWLY = f"""
    CREATE FUNCTION take_a_while() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep({PAYMENT_SECONDS}); RETURN NEW; END $$;
    CREATE TRIGGER take_a_while BEFORE INSERT ON order_event
    FOR EACH ROW WHEN (NEW.kind = 'paid') EXECUTE FUNCTION take_a_while();
"""
WIRING = """
from app.api import {module}

app.include_router({module}.router)
"""


class Shop:
    """The copy, its API and the stand-in for the world outside (which takes the payments)."""

    def __init__(self, stage: Stage, name: str = "shop") -> None:
        self._stage = stage
        self.name = name
        self.folder = stage.folder / name
        self.api_url = f"http://127.0.0.1:{free_port()}"
        self.world_url = f"http://127.0.0.1:{free_port()}"

    def copy(self) -> None:
        """Copy the sample shop, without what its developer may have left in it."""
        source = ROOT / "examples" / "shop"
        if not (source / "app" / "main.py").exists():
            raise DemoError(f"there is no sample shop in {source}")
        leftovers = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
        shutil.copytree(source, self.folder, ignore=leftovers)

    async def add_worker(self, *arguments: str) -> dict[str, Any]:
        """Run scripts/add_worker.py on the copy; its report."""
        script = ROOT / "scripts" / "add_worker.py"
        command: list[str | Path] = [sys.executable, script, *arguments, "--project", self.folder]
        command += ["--format", "json"]
        text = await self._stage.run(f"{self.name}-add-{arguments[0]}", command)
        report: dict[str, Any] = json.loads(text)
        return report

    def wire(self, postgres: Postgres, redis: RedisServer) -> None:
        """Write what add_worker.py leaves to the developer: a route that enqueues, and the settings."""
        self.route("payment_notices", NOTICES.read_text())
        self.set({"DATABASE_URL": postgres.url(), "REDIS_URL": redis.url, **QUICK})

    def route(self, module: str, text: str) -> None:
        """Add a module with routes to the API."""
        (self.folder / "app" / "api" / f"{module}.py").write_text(text)
        with (self.folder / "app" / "main.py").open("a") as main:
            main.write(WIRING.format(module=module))

    def set(self, more: dict[str, str]) -> None:
        """Write the settings."""
        settings = {
            "DB_POOL_SIZE": "12",
            "OUTBOX_SOURCE": SOURCE,
            **{f"{name}_URL": f"{self.world_url}/{name.lower()}" for name in ("MAIL", "LLM")},
            "PAYMENT_URL": f"{self.world_url}/payments",
            **more,
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self.folder / ".env").write_text("".join(lines))

    async def migrate(self) -> int:
        """Run the migrations; how many there are."""
        command = (sys.executable, "-m", "alembic", "upgrade", "head")
        await self._stage.run(f"{self.name}-migrations", command, cwd=self.folder)
        return len(list((self.folder / "migrations" / "versions").glob("*.py")))

    async def slow_down(self, database: asyncpg.Connection) -> None:
        """Make each `mark_paid` take a while, so that workers have something in hand when they are killed."""
        await database.execute(SLOWLY)

    async def start(self) -> None:
        """Start the world outside and the API, and wait until both answer."""
        world = self._serve("world", "world.stub:app", self.world_url, ROOT / "examples")
        await asyncio.gather(self.start_api(), answering(world, self.world_url))

    async def start_api(self) -> None:
        """Start the API and wait until it answers."""
        await answering(
            self._serve(f"{self.name}-api", "app.main:app", self.api_url, self.folder), self.api_url
        )

    def _serve(self, name: str, app: str, url: str, cwd: Path) -> Process:
        port = url.rpartition(":")[2]
        options = ("--port", port, "--log-level", "warning", "--timeout-graceful-shutdown", "2")
        command = (sys.executable, "-m", "uvicorn", app, *options)
        # Nothing is written next to the sources that the demo runs from.
        return self._stage.start(name, command, cwd=cwd, env={"PYTHONDONTWRITEBYTECODE": "1"})


async def answering(process: Process, url: str) -> None:
    """Wait until what is served at `url` answers. Raises DemoError."""
    async with httpx2.AsyncClient(trust_env=False, timeout=2) as client:
        await until(lambda: healthy(client, url), START_SECONDS, f"{url} answers", process)


async def healthy(client: httpx2.AsyncClient, url: str) -> bool:
    """Whether GET /health answers 200."""
    try:
        return bool((await client.get(f"{url}/health")).status_code == httpx2.codes.OK)
    except httpx2.TransportError:
        return False

"""Real servers, the stub of the world outside and a project that runs on them: where a scenario plays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from evals.deployment import Deployment
from support.ledger import Ledger, forget
from support.servers import PostgresServer, RabbitServer, RedisServer
from support.world import running_world
from world.client import World

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Finding:
    """Whether one expectation was met, and what was seen."""

    text: str
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Servers:
    """The real servers that the project runs on; a scenario kills and silences them."""

    postgres: PostgresServer
    redis: RedisServer
    rabbit: RabbitServer | None


@dataclass
class Stage:
    """What a scenario works with.

    patience: seconds without a further effect after which it is given up.
    pace: factor of the lengths of outages and freezes; tests of the grader itself are in a hurry.
    """

    deployment: Deployment
    world: World
    database: str
    redis_url: str
    rabbit_url: str
    servers: Servers
    patience: float = 60.0
    pace: float = 1.0
    findings: list[Finding] = field(default_factory=list)
    ledgers: list[str] = field(default_factory=list)

    def find(self, text: str, evidence: str, *, passed: bool) -> None:
        """Note a finding."""
        self.findings.append(Finding(text, passed, evidence))

    async def sql(self, statement: str) -> list[Any]:
        """Run a statement in the project's database."""
        connection = await asyncpg.connect(self.database)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    async def sql_script(self, statements: str) -> None:
        """Run several statements in the project's database."""
        connection = await asyncpg.connect(self.database)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def keep_up_for(self, seconds: float) -> None:
        """Let time pass; what ends by itself is restarted meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.deployment.keep_up()
            await asyncio.sleep(POLL_SECONDS)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of the API."""
        headers = {"X-Member": "ada"}
        async with httpx2.AsyncClient(base_url=self.deployment.url, timeout=15.0, headers=headers) as client:
            yield client

    async def until_done(
        self, wanted: Iterable[Hashable], effects: Callable[[], Awaitable[list[Hashable]]]
    ) -> list[Hashable]:
        """Wait until all that is wanted is there, or nothing more comes; the effects then."""
        missing, last = set(wanted), time.monotonic()
        while True:
            self.deployment.keep_up()
            done = await effects()
            left = missing - set(done)
            if len(left) < len(missing):
                missing, last = left, time.monotonic()
            if not missing or time.monotonic() - last > self.patience:
                return done
            await asyncio.sleep(POLL_SECONDS)

    async def account(
        self,
        name: str,
        accepted: Iterable[Hashable],
        effects: Callable[[], Awaitable[list[Hashable]]],
        *,
        settle: float = 3.0,
    ) -> Ledger:
        """Wait for the effects, and a while for too many of them; the account, which is noted."""
        promised = list(accepted)
        await self.until_done(promised, effects)
        await asyncio.sleep(settle)
        return self.note(name, promised, await effects())

    def note(self, name: str, promised: list[Hashable], effects: list[Hashable]) -> Ledger:
        """Note the account of what was promised, as it stands now."""
        done = [effect for effect in effects if effect in set(promised)]
        ledger = Ledger.of(name, attempted=promised, accepted=promised, effects=done)
        forget(ledger)  # the account of a project that is graded, not of this repository's tests
        self.ledgers.append(ledger.line())
        return ledger

    def find_done_once(self, text: str, ledger: Ledger) -> None:
        """Note whether all of an account was done, and once."""
        self.find(text, ledger.line(), passed=clean(ledger))

    def find_clean_exit(self) -> None:
        """Note how the workers took the SIGTERM of a deploy."""
        codes = self.deployment.exit_codes
        self.find(
            "workers end with exit code 0 within 30 s of SIGTERM",
            f"exit codes {codes}",
            passed=bool(codes) and set(codes) == {0},
        )


def clean(ledger: Ledger) -> bool:
    """Whether something was promised, all of it was done, and nothing of it twice."""
    return bool(ledger.accepted) and not ledger.lost and not ledger.duplicated


@asynccontextmanager
async def staged(
    project: Path, *, rabbit: bool = False, copies: int = 1, patience: float = 60.0, pace: float = 1.0
) -> AsyncIterator[Stage]:
    """Servers, RabbitMQ only if asked for, and the running project. DeploymentError when it does not run."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        redis = stack.enter_context(RedisServer(appendonly=True))
        broker = stack.enter_context(RabbitServer()) if rabbit else None
        rabbit_url = broker.url if broker else ""
        url = postgres.create_database("graded")
        async with running_world() as world:
            environment = {
                "DATABASE_URL": url,
                "REDIS_URL": redis.url,
                **({"RABBITMQ_URL": rabbit_url} if rabbit else {}),
                "CELERY_BROKER_URL": redis.url,
                **world.environment(),
            }
            deployment = stack.enter_context(Deployment(project, environment, copies=copies))
            await asyncio.to_thread(deployment.release)
            await asyncio.to_thread(deployment.start)
            plain = url.replace("postgresql+asyncpg", "postgresql")
            servers = Servers(postgres, redis, broker)
            yield Stage(deployment, world, plain, redis.url, rabbit_url, servers, patience, pace)

"""A fault test's world with long-running jobs: a database, dispatchers, and Celery workers."""

import asyncio
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from app.core.broker import BrokerDownError, Loss
from app.core.database import engine as default_engine
from app.core.database import get_session, session_factory
from app.core.job import JobContext, JobKind, submit
from support.celery_scene import CeleryScene
from support.ledger import Ledger
from support.scene import FAULTY, QUICK
from support.wait import eventually
from support.workers import IMPORT_PATH, WorkerProcess

Row = asyncpg.Record
OWNER = "ada"
NOWHERE = "redis://127.0.0.1:1/0"
BRISK = {
    **QUICK,
    "JOB_LEASE_SECONDS": "3",
    "JOB_POLL_SECONDS": "0.3",
    "JOB_OVERTAKEN_SECONDS": "2",
    "JOB_LONELY_SECONDS": "4",
    "FAULTY_TIMEOUT": "20",
}
LIMITS = {"CELERY_DRAIN_SECONDS": "2", "CELERY_PUBLISH_TIMEOUT_SECONDS": "1"}


class Work(BaseModel):
    """Payload of the faulty kind."""

    order_id: int
    do: str = "well"
    seconds: float = 0
    times: int = 1


async def elsewhere(context: JobContext[Work], session: AsyncSession) -> None:
    """The work is done by the workers' own kind of this name."""


FAULTY_KIND = JobKind("test.work.v1", Work, elsewhere, deadline=timedelta(minutes=10))


@dataclass
class JobScene(CeleryScene):
    """Jobs in a database. `get_session` of this process leads to the same one, see `tests/jobs/conftest.py`.

    Celery's limits are the defaults: what comes back in time does so because of the leases.
    """

    settings: dict[str, str] = field(default_factory=lambda: dict(BRISK), kw_only=True)
    limits: dict[str, str] = field(default_factory=lambda: dict(LIMITS), kw_only=True)

    def dispatcher(self, **env: str) -> WorkerProcess:
        """Start a dispatcher."""
        return self.worker("job_dispatcher", **env)

    def celery(
        self, *options: str, pool: str = "prefork", supervised: bool = False, **env: str
    ) -> WorkerProcess:
        """Start a worker of the whole application: a machine of its own, as far as jobs can tell."""
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "app.core.celery_app",
            "worker",
            "-P",
            pool,
            "-c",
            "2",
        ]
        command += ["-l", "INFO", "--without-gossip", "--without-mingle", "-n", f"w{len(self.workers)}@%h"]
        command += options
        if supervised:
            command = ["bash", "-c", 'while true; do "$@"; done', "supervisor", *command]
        settings = {
            "DATABASE_URL": self.postgres_url,
            "FAULTY_FOLDER": str(self.folder),
            "FAULTY_BROKER": "redis",
            **self.environment(),
            **self.settings,
            **env,
        }
        path = [FAULTY, *IMPORT_PATH]
        process = WorkerProcess("celery", settings, command=command, import_path=path).start()
        self.workers.append(process)
        return process

    # -- jobs --------------------------------------------------------------------------------------------

    async def submit(self, order_id: int, *, kind: JobKind[Work] = FAULTY_KIND, **data: Any) -> uuid.UUID:
        """Submit a job about an order, which now is accepted."""
        async with get_session() as session:
            job = await submit(session, kind, Work(order_id=order_id, **data), owner=OWNER)
        self.accepted.append(order_id)
        return job.id

    async def submit_many(self, count: int, **data: Any) -> list[uuid.UUID]:
        """Submit a job about each of so many new orders."""
        orders = await self.orders(count)
        found = []
        for start in range(0, count, 5):
            chunk = orders[start : start + 5]
            found += await asyncio.gather(*(self.submit(order, **data) for order in chunk))
        return found

    async def row(self, id_: uuid.UUID) -> Row:
        """A job's row."""
        (row,) = await self.sql("SELECT * FROM job WHERE id = $1", id_)
        return row

    async def states(self) -> Counter[str]:
        """How many jobs are in which state."""
        return Counter(row["state"] for row in await self.sql("SELECT state FROM job"))

    async def until_state(self, state: str, count: int = 1, deadline_s: float = 30) -> None:
        """Wait until so many jobs are in a state."""

        async def reached() -> bool:
            return (await self.states())[state] >= count

        await eventually(
            reached, deadline_s, f"{count} jobs are {state}", ignore=(OSError, asyncpg.PostgresError)
        )

    async def job_ledger(self, name: str, *, attempted: Iterable[int] | None = None) -> Ledger:
        """The account of all that was submitted; a second attempt, or a second message, is a recovery."""
        effects = await self.effects()
        again = await self.sql(
            "SELECT (payload->>'order_id')::int AS o FROM job WHERE attempt > 1 OR sends > 1"
        )
        recovered = len({row["o"] for row in again} & set(effects))
        tried = self.accepted if attempted is None else attempted
        return Ledger.of(name, attempted=tried, accepted=self.accepted, effects=effects, recovered=recovered)


@asynccontextmanager
async def scene_at(postgres_url: str, broker_url: str = NOWHERE) -> AsyncIterator[JobScene]:
    """A scene, and sessions of its database."""
    engine = create_async_engine(postgres_url, pool_size=20, pool_pre_ping=True)
    session_factory.configure(bind=engine)
    with JobScene(postgres_url, broker_url=broker_url) as scene:
        yield scene
    session_factory.configure(bind=default_engine)
    await engine.dispose()


class FakeCarrier:
    """Brings nothing to anybody, and notes what it was asked to bring."""

    via = "celery"

    def __init__(self) -> None:
        self.sent: list[uuid.UUID] = []
        self.down = self.halved = False
        self.lost = Loss.NONE
        self.closed = False

    async def send(self, jobs: Sequence[Any]) -> list[str | None]:
        """See Carrier. Every other time only half of them get through."""
        await asyncio.sleep(0)
        if self.down:
            raise BrokerDownError("away")
        self.halved = not self.halved
        through = jobs[: (len(jobs) + 1) // 2] if self.halved else jobs
        self.sent += [job.id for job in through if job.queue != "missing"]
        return ["no such queue" if job.queue == "missing" else None for job in through]

    async def loss(self, owner: str) -> Loss:  # noqa: ARG002
        """See Carrier."""
        if self.down:
            raise BrokerDownError("away")
        return self.lost

    async def remember(self, owner: str) -> None:  # noqa: ARG002
        """See Carrier."""
        self.lost = Loss.NONE

    async def close(self) -> None:
        """See Carrier."""
        self.closed = True

"""A fault test's world with batches of a language model's provider: a database, a provider, and workers."""

import asyncio
import importlib.util
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.job import JobContext, JobKind, job, submit
from app.core.job_settings import JobSettings
from app.core.job_worker import JobWorker
from app.core.llm_batch_provider import BatchProvider
from app.core.llm_batch_settings import LlmBatchSettings
from app.core.llm_batch_worker import BatchWorker
from app.core.llm_batches import batches
from app.core.llm_call import call
from app.core.llm_provider import Answer, Message, Prompt
from app.core.llm_settings import LlmSettings
from app.repositories.orders import OrderRepository
from support.job_scene import OWNER, JobScene, Work
from support.workers import ROOT

if TYPE_CHECKING:
    from tests.workers.llm_batch_lab import Model

WIRES = ("anthropic", "openai")
PRICE = (3, 15)
# No lease is to be over here, even when the machine stands still for a while.
JOBS = JobSettings(job_lease_seconds=60, job_poll_seconds=0.2, job_flush_seconds=0.1)
BRISK = LlmBatchSettings(llm_batch_wait_seconds=0, llm_batch_poll_seconds=0.2)


def model() -> "Model":
    """The provider of the tests that land."""
    return cast("Model", lab("llm_batch_lab").start(lab("http_lab").start))


def lab(name: str) -> Any:
    """A module of the tests that land."""
    path = ROOT / "templates" / "tests" / "workers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Nobody:
    """A provider that must not be asked outside of a batch."""

    def stream(self, *_: Any, **__: Any) -> Any:
        """See Provider."""
        raise AssertionError("asked at the full price")

    async def aclose(self) -> None:
        """See Provider."""


async def ask(context: JobContext[Work]) -> Answer:
    """What is asked has the order's number in it, and what it is to do."""
    text = f"{context.data.do} {context.data.order_id}"
    return await call(context, Nobody(), Prompt("model-1", (Message("user", text),)))


async def store(context: JobContext[Work], session: AsyncSession) -> dict[str, str]:
    """The effect."""
    await OrderRepository(session).add_event(context.data.order_id, "processed")
    return {"answer": context.answer.text}


@dataclass
class BatchScene:
    """Jobs that are asked in batches, in a scene of jobs."""

    jobs: JobScene
    model: "Model"
    wire: str
    kind: JobKind[Work]
    ids: dict[int, uuid.UUID] = field(default_factory=dict)

    def provider(self) -> BatchProvider:
        """What speaks to the provider."""
        given = {key.lower(): value for key, value in self.model.environment.items()}
        return batches(LlmSettings(llm_wire=self.wire, **given))  # type: ignore[arg-type]

    def worker(self, lease: float = 60, **changes: Any) -> BatchWorker:
        """A worker of batches, not yet running."""
        jobs = JOBS.model_copy(update={"job_lease_seconds": lease})
        return BatchWorker(self.provider(), BRISK.model_copy(update=changes), jobs)

    @asynccontextmanager
    async def running(self, count: int = 1, **changes: Any) -> AsyncIterator[list[BatchWorker]]:
        """Workers of batches, and one of the table, in this process; stopped at the end."""
        workers = [self.worker(**changes) for _ in range(count)]
        stop = asyncio.Event()
        runs: list[Callable[[asyncio.Event], Awaitable[None]]] = [JobWorker(JOBS).run]
        tasks = [asyncio.ensure_future(run(stop)) for run in [*runs, *(worker.run for worker in workers)]]
        try:
            yield workers
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 90)

    async def submit(self, count: int, owner: str = OWNER, **data: Any) -> list[uuid.UUID]:
        """Submit a job about each of so many new orders, which now are accepted."""
        found = []
        for order in await self.jobs.orders(count):
            async with get_session() as session:
                added = await submit(session, self.kind, Work(order_id=order, **data), owner=owner)
            self.jobs.accepted.append(order)
            found.append(added.id)
        return found

    def asked(self, id_: uuid.UUID) -> int:
        """In how many batches a job was."""
        return self.model.asked(str(id_))

    async def batches(self) -> list[Any]:
        """The rows of batches, the oldest first."""
        return await self.jobs.sql("SELECT * FROM llm_batch ORDER BY created_at")

    async def rows(self) -> list[Any]:
        """The rows of jobs."""
        return await self.jobs.sql("SELECT * FROM job ORDER BY created_at")

    async def told(self, id_: uuid.UUID) -> list[tuple[str, Any]]:
        """The events of a job."""
        rows = await self.jobs.sql("SELECT type, data FROM job_event WHERE job_id = $1 ORDER BY id", id_)
        return [(row["type"], json.loads(row["data"])) for row in rows]


@asynccontextmanager
async def batch_scene(jobs: JobScene, wire: str) -> AsyncIterator[BatchScene]:
    """A scene, and its kind of job."""
    provider = model()
    kind = job("test.later.v1", Work, ask=ask, via="batch", attempts=3, deadline=timedelta(hours=48))(store)
    try:
        yield BatchScene(jobs, provider, wire, kind)
    finally:
        provider.close()

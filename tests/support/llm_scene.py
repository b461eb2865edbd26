"""A fault test's world with calls of language models: a database, a provider, workers, and the API."""

import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from app.core.database import get_session
from app.core.job import submit
from app.llm.summarise_document import SummariseDocument, summarise_document
from app.services.documents import DocumentService
from support.job_scene import OWNER, JobScene
from support.ledger import Ledger
from support.llm_server import LlmServer
from support.ports import free_port
from support.workers import IMPORT_PATH, WorkerProcess

HEADERS = {"X-User": OWNER}


@dataclass
class Seen:
    """An event that a client got."""

    id: str
    type: str
    data: Any


@dataclass
class LlmScene:
    """Jobs that summarise documents, in a scene of jobs."""

    jobs: JobScene
    llm: LlmServer
    settings: dict[str, str] = field(default_factory=dict)

    def worker(self, **env: str) -> WorkerProcess:
        """Start a worker."""
        return self.jobs.worker("llm_jobs", **self.environment(), **env)

    def environment(self) -> dict[str, str]:
        """How a worker finds the provider."""
        prices = json.dumps({"model-1": [3, 15]})
        given = {"LLM_BASE_URL": self.llm.url, "LLM_MODEL": "model-1", "LLM_PRICES": prices}
        return given | self.settings

    async def api(self, *options: str, port: int = 0) -> tuple[WorkerProcess, httpx2.AsyncClient]:
        """Start an API; the client is the owner's."""
        port = port or free_port()
        command = [sys.executable, "-m", "uvicorn", "support.job_api:app", "--port", str(port), *options]
        env = {"DATABASE_URL": self.jobs.postgres_url, **self.environment()}
        process = WorkerProcess("api", env, command=command, import_path=IMPORT_PATH).start()
        self.jobs.workers.append(process)
        await process.until_ready(url=f"http://127.0.0.1:{port}/health")
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=20)
        return process, client

    async def document(self) -> int:
        """Add a document."""
        async with get_session() as session:
            return (await DocumentService(session).create("A title", "A body.")).id

    async def submit(self, owner: str = OWNER) -> uuid.UUID:
        """Submit a job about a new document, which now is accepted."""
        async with get_session() as session:
            document = await DocumentService(session).create("A title", "A body.")
            job = await submit(
                session, summarise_document, SummariseDocument(document_id=document.id), owner=owner
            )
        self.jobs.accepted.append(document.id)
        return job.id

    async def events(self, id_: uuid.UUID) -> list[tuple[int, str, Any]]:
        """The events of a job, as they are stored."""
        rows = await self.jobs.sql("SELECT id, type, data FROM job_event WHERE job_id = $1 ORDER BY id", id_)
        return [(row["id"], row["type"], json.loads(row["data"])) for row in rows]

    async def ledger(self, name: str) -> Ledger:
        """The account: the effect is the one result of a job, and a document that has the summary."""
        rows = await self.jobs.sql(
            "SELECT (payload->>'document_id')::int AS d, attempt FROM job WHERE state = 'succeeded'"
        )
        done = {
            row["id"]
            for row in await self.jobs.sql("SELECT id FROM document WHERE summary = $1", self.llm.text)
        }
        effects = [row["d"] for row in rows if row["d"] in done]
        recovered = len({row["d"] for row in rows if row["attempt"] > 1})
        accepted = self.jobs.accepted
        return Ledger.of(name, attempted=accepted, accepted=accepted, effects=effects, recovered=recovered)


@asynccontextmanager
async def following(
    client: httpx2.AsyncClient, id_: uuid.UUID, after: str | None = None
) -> AsyncIterator[AsyncIterator[Seen]]:
    """The events of a job as they come; `after` is the id of the last one that was seen."""
    headers = {} if after is None else {"Last-Event-ID": after}
    async with client.stream("GET", f"/jobs/{id_}/events", headers=headers) as response:
        assert response.status_code == 200, response.status_code
        assert response.headers["content-type"].startswith("text/event-stream")
        async with aclosing(parse(response)) as events:
            yield events


async def parse(response: httpx2.Response) -> AsyncGenerator[Seen, None]:
    """Server-sent events."""
    found: dict[str, str] = {}
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                name, _, value = line.decode().partition(": ")
                found[name] = value
            else:
                if "data" in found:
                    yield Seen(found.get("id", ""), found.get("event", ""), json.loads(found["data"]))
                found = {}


def told(events: list[Seen]) -> str:
    """The text that a client has in the end: each start of a call begins it anew."""
    text = ""
    for event in events:
        if event.type == "started":
            text = ""
        elif event.type == "delta":
            text += event.data["text"]
    return text


def once(events: list[Seen]) -> bool:
    """Whether no event came twice, and all in their order."""
    ids = [int(event.id) for event in events if event.type != "end"]
    return ids == sorted(ids) and max(Counter(ids).values(), default=0) <= 1

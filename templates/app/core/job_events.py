"""Events of jobs: what a job tells those who follow it, written many at a time and read from any position.

    emit(context, "delta", {"text": "Once"})    in a job's function

Events are a record as long as their job is one, so a follower that comes late or again misses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import get_session
from app.core.dead_letter_table import storable
from app.core.deadline import within
from app.core.failures import describe
from app.core.job import JobContext, json_text
from app.core.job_attempt import Attempt
from app.core.job_manage import ENDED
from app.core.job_store import HELD

EVENTS_CHANNEL = "job_event"
DELTA = "delta"
STEP_TIMEOUT = 10.0
PATIENCE = 45.0
PAGE = 100
ATTEMPT = 1_000_000_000  # ids of one attempt
logger = logging.getLogger(__name__)

# Fenced: what an attempt says that is no longer the job's is not heard.
WRITE = text(
    f"""
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:jobs AS uuid[]), CAST(:attempts AS int[]), CAST(:ids AS bigint[]),
                             CAST(:types AS text[]), CAST(:data AS text[]))
               AS g (job_id, attempt, id, type, data)),
    ours AS MATERIALIZED (
        SELECT id AS job_id, attempt FROM job WHERE id = ANY (CAST(:jobs AS uuid[])) AND state IN {HELD}
        ORDER BY id FOR NO KEY UPDATE),
    added AS (
        INSERT INTO job_event (job_id, id, type, data)
        SELECT job_id, id, type, CAST(data AS jsonb) FROM given JOIN ours USING (job_id, attempt)
        ON CONFLICT DO NOTHING RETURNING 1)
    SELECT pg_notify(:channel, '') FROM (SELECT count(*) FROM added) AS counted
    """  # noqa: S608  # HELD is ours
)
NOTIFY = text("SELECT pg_notify(:channel, '')")
# Of a job with nothing new there is no row: of a thousand that are followed most have nothing new.
READ = text(
    """
    SELECT given.id AS job_id, job.state, job.error, event.id, event.type, CAST(event.data AS text) AS data
    FROM unnest(CAST(:ids AS uuid[]), CAST(:after AS bigint[])) AS given (id, after)
    LEFT JOIN job ON job.id = given.id
    LEFT JOIN LATERAL (
        SELECT e.id, e.type, e.data FROM job_event AS e
        WHERE e.job_id = given.id AND e.id > given.after ORDER BY e.id LIMIT :page) AS event ON true
    WHERE event.id IS NOT NULL OR job.id IS NULL OR job.finished_at IS NOT NULL
    ORDER BY given.id, event.id
    """
)


@dataclass(frozen=True)
class Event:
    """An event as followers get it; `data` is JSON on one line, as PostgreSQL writes it."""

    id: int
    type: str
    data: str

    @cached_property
    def sse(self) -> bytes:
        """The same as a server-sent event: written once for all readers."""
        return f"event: {self.type}\ndata: {self.data}\nid: {self.id}\n\n".encode()


@dataclass(slots=True)
class Page:
    """The events of a job behind a position, and how the job stood when they were all there were."""

    state: str
    error: str | None
    events: list[Event] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether there may be more events."""
        return len(self.events) >= PAGE

    @property
    def ended(self) -> bool:
        """Whether no more events will come."""
        return not self.full and self.state in ENDED


def emit(job: JobContext[Any], kind: str, data: Mapping[str, Any]) -> None:
    """Tell the job's followers something, which costs nothing: it is written soon, with what others say.
    `kind` has at most 100 characters, on one line. Of jobs that Celery runs nothing is written.

    Raises ValueError for another kind, and UnstorableError for U+0000 in the data. From the `text` of a
    `delta` it is taken out, and deltas that follow each other are joined.
    """
    if len(kind) > 100 or not kind.isprintable():
        raise ValueError(f"no kind of event: {kind[:100]!r}")
    if kind != DELTA:
        job.events.append((kind, json_text(data)))
    elif job.events and job.events[-1][0] == DELTA:
        job.events[-1][1].append(data["text"])
    else:
        job.events.append((DELTA, [data["text"]]))


async def read(positions: Mapping[uuid.UUID, int]) -> dict[uuid.UUID, Page | None]:
    """What came behind the positions in several jobs, up to a page of each. None: the job is gone. Of a job
    that goes on and has nothing new there is nothing.
    """
    values = {"ids": list(positions), "after": list(positions.values()), "page": PAGE}
    pages: dict[uuid.UUID, Page | None] = {}
    async with get_session() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        for row in await session.execute(READ, values):
            page = pages.get(row.job_id)
            if page is None:
                page = pages[row.job_id] = None if row.state is None else Page(row.state, row.error)
            if page is not None and row.id is not None:
                page.events.append(Event(row.id, row.type, row.data))
    return pages


@dataclass(frozen=True, slots=True)
class Record:
    """A row to be."""

    job: uuid.UUID
    attempt: int
    id: int
    type: str
    data: str


class Recorder:
    """Writes what the jobs of a worker say: those of `held`, every `pause` seconds, in one statement. It has
    a connection of its own: jobs that wait for it may have used up the pool.
    """

    def __init__(self, pause: float, held: Callable[[], Iterable[Attempt]]) -> None:
        self._pause = pause
        self._held = held
        self._batch: list[Record] = []
        self._writing: set[uuid.UUID] = set()  # the jobs in it
        self._hurry = asyncio.Event()
        self._written = asyncio.Event()
        self._announced = False

    async def run(self) -> None:
        """Write, for ever. While the database is away it is tried again and again."""
        while True:
            try:
                async with get_session() as session:
                    await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                    while True:
                        await self._sleep()
                        await within(STEP_TIMEOUT, self._write(session))
            except Exception as error:  # events wait in memory; a loop that ends would hold up all jobs
                logger.debug("events not written: %s", describe(error))
            await asyncio.sleep(random.uniform(0.2, 0.6))  # jitter, not a secret

    async def flush(self, attempt: Attempt) -> None:
        """Return when all that the job has said is written. Gives up after 45 seconds without a database."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self._unwritten(attempt):
                    self._hurry.set()
                    await self._written.wait()
        except TimeoutError:
            logger.warning("%s: its last events are not written", attempt)

    def announce(self) -> None:
        """Wake the followers soon: a job has ended."""
        self._announced = True

    def _unwritten(self, attempt: Attempt) -> bool:
        waits = attempt.job is not None and bool(attempt.job.events)
        return waits or attempt.id in self._writing

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(self._pause):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _write(self, session: AsyncSession) -> None:
        """Write the batch. One that may have been written, the answer got lost, is written again as it is."""
        self._hurry.clear()
        announced, self._announced = self._announced, False
        if not self._batch:
            self._batch = [record for attempt in self._held() for record in records(attempt)]
            self._writing = {record.job for record in self._batch}
        if self._batch:
            await write(session, self._batch)
            self._batch = []
            self._writing = set()
        elif announced:
            await session.execute(NOTIFY, {"channel": EVENTS_CHANNEL})
        self._written.set()
        self._written = asyncio.Event()


def records(attempt: Attempt) -> Iterator[Record]:
    """Take what a job has to say."""
    job = attempt.job
    if job is None or not job.events:
        return
    events, job.events = job.events, []
    for kind, said in events:
        data = json_text({"text": storable("".join(said))}) if kind == DELTA else said
        job.told += 1
        yield Record(attempt.id, attempt.number, attempt.number * ATTEMPT + job.told, kind, data)


async def write(session: AsyncSession, batch: Sequence[Record]) -> None:
    """Write events, as far as their attempts are still those of their jobs."""
    values = {
        "jobs": [record.job for record in batch],
        "attempts": [record.attempt for record in batch],
        "ids": [record.id for record in batch],
        "types": [record.type for record in batch],
        "data": [record.data for record in batch],
        "channel": EVENTS_CHANNEL,
    }
    await session.execute(WRITE, values)

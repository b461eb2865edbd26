"""A fault test's world with schedulers: what was due, what was run, and what became of it all."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import asyncpg

from support import forked
from support.ledger import Ledger
from support.scene import FAULTY, Scene
from support.wait import eventually
from support.workers import IMPORT_PATH, WorkerProcess

SECOND = timedelta(seconds=1)
Row = asyncpg.Record


@dataclass(frozen=True, order=True)
class TickId:
    """A tick, by its job and its due time in seconds since 1970."""

    job: str
    due: int


@dataclass(frozen=True)
class Start:
    """A start of the faulty job's function."""

    tick: TickId
    attempt: int
    pid: int


@dataclass
class CronScene(Scene):
    """Schedulers that run the job `faulty` every second, each tick to be made up, and a database."""

    broker: ClassVar[str] = "none"

    def environment(self) -> dict[str, str]:
        return {}

    def scheduler(self, name: str = "scheduler", **env: str) -> WorkerProcess:
        """Start a scheduler of all jobs; `env` overrides settings."""
        return self.worker(name, **env)

    def process(self, command: list[str], **env: str) -> WorkerProcess:
        """Start another program, such as an API, in the place of a scheduler."""
        process = WorkerProcess(
            "api", {**self.variables(), **env}, command=command, import_path=[FAULTY, *IMPORT_PATH]
        )
        self.workers.append(process.start())
        return process

    def variables(self) -> dict[str, str]:
        """The environment of everything that runs here."""
        return {"DATABASE_URL": self.postgres_url, "FAULTY_FOLDER": str(self.folder), **self.settings}

    def do(self, words: str) -> None:
        """What the job does from now on."""
        (self.folder / "do.new").write_text(words)
        (self.folder / "do.new").rename(self.folder / "do")

    async def connect(self) -> asyncpg.Connection:
        """A connection to the database, to hold things with."""
        return await asyncpg.connect(self.postgres_url.replace("+asyncpg", ""), timeout=10)

    # -- what is due -------------------------------------------------------------------------------------

    async def now(self) -> datetime:
        """What the database's clock shows."""
        (row,) = await self.sql("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    async def begin(self, *jobs: str, ago: timedelta = timedelta(), schedule: str = "every 0:00:01") -> int:
        """Have the jobs planned up to `ago`; that moment. It makes an order for their effects, too."""
        if not await self.sql("SELECT 1 FROM customer_order"):
            await self.orders(1)
        since = (await self.now() - ago).replace(microsecond=0)
        for job in jobs or ("faulty",):
            await self.sql(
                "INSERT INTO cron_job (job, schedule, planned_until) VALUES ($1, $2, $3)"
                " ON CONFLICT (job, schedule) DO UPDATE SET planned_until = $3",
                job,
                schedule,
                since,
            )
        return int(since.timestamp())

    # -- what was run ------------------------------------------------------------------------------------

    def started(self) -> list[Start]:
        """All starts of the job's function."""
        file = self.folder / "ticks"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [Start(TickId(job, int(due)), int(attempt), int(pid)) for job, due, attempt, pid in lines]

    async def ticks_done(self) -> list[TickId]:
        """The effects, a tick as many times as its effect is there."""
        rows = await self.sql("SELECT detail FROM order_event WHERE kind = 'tick'")
        return [TickId(job, int(due)) for job, due in (row["detail"].split() for row in rows)]

    async def runs(self, job: str = "faulty") -> list[Row]:
        """The rows of a job, by their due time."""
        return await self.sql("SELECT * FROM cron_run WHERE job = $1 ORDER BY due_at", job)

    async def states(self, job: str = "faulty") -> Counter[str]:
        """How many rows of a job are in which state."""
        return Counter(row["state"] for row in await self.runs(job))

    async def run_of(self, due: int, job: str = "faulty") -> Row:
        """The row of one tick."""
        moment = datetime.fromtimestamp(due, UTC)
        rows = await self.sql("SELECT * FROM cron_run WHERE job = $1 AND due_at = $2", job, moment)
        return rows[0]

    async def has_failed(self, due: int) -> bool:
        """Whether the run of this tick is there and has failed for good."""
        return any(row["state"] == "failed" and row["due_at"].timestamp() == due for row in await self.runs())

    async def until_done(self, ticks: set[TickId], deadline_s: float = 60) -> None:
        """Wait until the effect of each tick is there."""

        async def done() -> bool:
            return ticks <= set(await self.ticks_done())

        await eventually(
            done, deadline_s, f"{len(ticks)} ticks are done", ignore=(OSError, asyncpg.PostgresError)
        )

    async def tick_ledger(self, name: str, ticks: set[TickId]) -> Ledger:
        """The account of what was due, without later ticks. Recovered: made up, or started again."""
        last = max(tick.due for tick in ticks)
        starts = Counter(start.tick for start in self.started())
        done = [tick for tick in await self.ticks_done() if tick.due <= last]
        late = "SELECT job, due_at FROM cron_run WHERE created_at > due_at + interval '2 s'"
        made_up = {TickId(row["job"], int(row["due_at"].timestamp())) for row in await self.sql(late)}
        again = {tick for tick, count in starts.items() if count > 1}
        recovered = len((again | made_up) & set(done))
        return Ledger.of(name, attempted=ticks, accepted=ticks, effects=done, recovered=recovered)

    # -- commands ----------------------------------------------------------------------------------------

    async def command(self, *words: str, **env: str) -> tuple[int, Any, str]:
        """Run `app.workers.cron`: its exit code, its data and its remarks."""
        result = await asyncio.to_thread(self._command, words, env)
        data = json.loads(result.stdout) if result.stdout.startswith(("[", "{")) else result.stdout
        return result.returncode, data, result.stderr

    def _command(self, words: tuple[str, ...], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join(map(str, [FAULTY, *IMPORT_PATH]))
        return forked.run(
            [sys.executable, "-m", "app.workers.cron", *words],
            env={**os.environ, **self.variables(), "PYTHONPATH": path, **env},
            cwd=self.folder,
        )


def ticks_of(since: int, count: int, *jobs: str, every: int = 1) -> set[TickId]:
    """The first `count` ticks after `since` of each job."""
    dues: Iterator[int] = iter(range(since + every, since + every * (count + 1), every))
    numbers = list(dues)
    return {TickId(job, due) for job in jobs or ("faulty",) for due in numbers}

"""Runs jobs that wait in the table (`via` table), hundreds at once in one process.

Any number of them may run. What they know of each other is in the database: they claim jobs with SKIP LOCKED
under limits that hold for all of them together, and keep what they hold by one heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from typing import Any

from app.core import job_claim, job_letters
from app.core.dead_letters import DeadLetters
from app.core.deadline import together, within
from app.core.failures import describe
from app.core.gate import forget_idle_connections
from app.core.job_attempt import Attempt
from app.core.job_events import Recorder
from app.core.job_runner import JobRunner
from app.core.job_settings import JobSettings, job_settings
from app.core.job_store import CANCELS, CHANNEL
from app.core.job_upkeep import Upkeep
from app.core.listen import listen
from app.core.worker_settings import WorkerSettings, worker_settings

NOT_STARTED = "has not started"
STEP_TIMEOUT = 15.0
SILENT_AFTER = 40.0
# Of many commits one claim hears.
SHORTLY = 0.02
logger = logging.getLogger(__name__)


class JobWorker:
    """Runs jobs of the kinds in KINDS until it is told to stop."""

    name = "job_worker"

    def __init__(self, settings: JobSettings | None = None, worker: WorkerSettings | None = None) -> None:
        self.settings = settings or job_settings()
        self._worker_settings = worker or worker_settings()
        self._runner = JobRunner(self.settings, lazy=False)
        self._recorder = Recorder(self.settings.job_flush_seconds, lambda: self._runner.held)
        self._wake = asyncio.Event()
        self._upkeep = Upkeep(self.settings, self._wake.set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble: str | None = NOT_STARTED
        self._turned = time.monotonic()
        self._stopping = False

    # -- life ------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Run jobs until `stop` is set, then finish or hand back what is in hand."""
        feed = asyncio.ensure_future(self._feed())
        loops: list[Coroutine[Any, Any, None] | asyncio.Task[None]] = [
            feed,
            self._recorder.run(),
            *self._runner.loops(),
            self._upkeep.recover(),
            self._upkeep.prune(),
            listen(CHANNEL, self._wake.set, self.settings.job_poll_seconds, self._told),
        ]
        await together(self._until(stop, feed), loops)

    def problems(self) -> list[str]:
        """Why no jobs are run; empty when all is well. Called from another thread."""
        silence = time.monotonic() - self._turned
        found = [
            self._trouble,
            self._upkeep.problem,
            f"has not looked for jobs for {silence:.0f} s" if silence > SILENT_AFTER else None,
            self._runner.late(),
        ]
        return [f"{self.name}: {problem}" for problem in found if problem]

    def dead_letters(self) -> DeadLetters:
        """Jobs that have failed, for the command `app.workers.dead_letters`."""
        return job_letters.dead_letters()

    async def _until(self, stop: asyncio.Event, feed: asyncio.Task[None]) -> None:
        await stop.wait()
        self._stopping = True
        self._wake.set()
        # Not cancelled: what is being claimed right now would be nobody's until its lease is over.
        await asyncio.wait([feed], timeout=STEP_TIMEOUT)
        await self._ended(self._worker_settings.worker_drain_seconds)
        for attempt in list(self._runner.held):
            attempt.watch.revoke("handed back at shutdown")
        await self._ended(STEP_TIMEOUT)

    async def _ended(self, timeout: float) -> None:
        """Wait until what was started has ended, at most `timeout` seconds."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)

    # -- finding work ----------------------------------------------------------------------------------

    async def _feed(self) -> None:
        pause = 0.1
        while not self._stopping:
            self._wake.clear()
            try:
                await self._claim()
            except Exception as error:  # the database is away: no job pays for it
                await self._troubled(error)
                await asyncio.sleep(random.uniform(pause / 2, pause))  # jitter, not a secret
                pause = min(2.0, pause * 2)
                continue
            self._trouble, self._turned, pause = None, time.monotonic(), 0.1
            await asyncio.sleep(SHORTLY)
            await self._sleep()

    async def _claim(self) -> None:
        """Start what waits, as far as there is room."""
        room, asked = self.settings.job_concurrency - len(self._tasks), time.monotonic()
        if room <= 0:
            return
        rows = await within(STEP_TIMEOUT, job_claim.claim(self.settings, self._runner.runner, room))
        for row in rows:
            attempt = Attempt.of(row, asked, self._recorder.flush)
            task = asyncio.create_task(self._make(attempt), name=str(attempt))
            self._tasks.add(task)
            task.add_done_callback(self._over)

    async def _make(self, attempt: Attempt) -> None:
        try:
            await self._runner.make(attempt)
        except Exception:  # its lease lapses, and it is counted
            logger.exception("%s: what became of it cannot be noted", attempt)
        self._recorder.announce()

    def _told(self, said: str | None) -> None:
        if said in (CANCELS, None):
            self._runner.hurry.set()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _sleep(self) -> None:
        """Until there may be something to do."""
        try:
            async with asyncio.timeout(self.settings.job_poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _troubled(self, error: Exception) -> None:
        if self._trouble in (None, NOT_STARTED):
            logger.warning("no job can be started: %s", describe(error))
            logger.debug("the error in full", exc_info=error)
        self._trouble = describe(error)
        if isinstance(error, TimeoutError):
            await forget_idle_connections()

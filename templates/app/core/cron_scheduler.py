"""Runs cron jobs: any number of schedulers, in any processes, make one run of each tick.

Each of them plans what is due, claims what waits, keeps alive what it runs, and takes over what others left
behind. None of them is a leader, and all that they know of each other is in the database.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.core import cron_planner, cron_store
from app.core.cron_attempt import Attempt
from app.core.cron_job import CronJob
from app.core.cron_keeper import Keeper
from app.core.deadline import enforce, together, within
from app.core.failures import classify, describe
from app.core.gate import Gate, forget_idle_connections
from app.core.outcomes import Done, Down, RefusedToStartError
from app.core.slots import Slots
from app.core.worker_settings import WorkerSettings, worker_settings

NOT_STARTED = "has not started"
# Longer than a pool usually lets one wait, whose own error says what is wrong.
STEP_TIMEOUT = 15.0
POLL = 1.0
# Another scheduler is planning a job right now, or our idea of the database's clock is a little ahead.
SHORTLY = 0.02
# All jobs are planned this often although nothing is due: it says until when somebody was there.
FULL_PASS = 20.0
SILENT_AFTER = 20.0
AT_ONCE = datetime.min.replace(tzinfo=UTC)
logger = logging.getLogger(__name__)


class CronScheduler:
    """Runs `jobs` until it is told to stop. `draw` returns a number from 0 to 1, for the jitter.

    Raises RefusedToStartError without jobs.
    """

    name = "scheduler"

    def __init__(
        self,
        jobs: Sequence[CronJob],
        settings: WorkerSettings | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not jobs:
            raise RefusedToStartError(
                "no cron jobs: a module of app.jobs defines one as `job = CronJob(...)`"
            )
        self.jobs = {job.name: job for job in jobs}
        self.settings = settings or worker_settings()
        self.gate = Gate()
        self.keeper = Keeper(self.settings)
        self.slots: Slots[Attempt] = Slots(self.settings.worker_concurrency, self._handle)
        self.trouble: str | None = NOT_STARTED
        self.stopping = False
        self._draw = draw
        self._wake = asyncio.Event()
        self._clock = DatabaseClock()
        self._agenda: dict[str, datetime | None] = dict.fromkeys(self.jobs, AT_ONCE)
        self._next_full_pass = 0.0
        self._next_try: datetime | None = None
        self._turned = time.monotonic()

    # -- life ------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Run what is due until `stop` is set, then finish or hand back what is in hand."""
        feed = asyncio.ensure_future(self._feed())
        loops: list[Coroutine[Any, Any, None] | asyncio.Task[None]] = [
            feed,
            self.keeper.keep_alive(),
            self.keeper.upkeep(),
            enforce(self.keeper.watches),
            self.gate.watch(),
            self.gate.doubt(self.keeper.watches),
            *(self.slots.work() for _ in range(self.slots.count)),
        ]
        await together(self._until(stop, feed), loops)

    def problems(self) -> list[str]:
        """Why nothing is being run; empty when all is well."""
        silence = time.monotonic() - self._turned
        found = [
            self.trouble,
            f"paused: {self.gate.reason}" if self.gate.reason else None,
            f"has not looked for what is due for {silence:.0f} s" if silence > SILENT_AFTER else None,
            self.keeper.late(),
        ]
        return [f"{self.name}: {problem}" for problem in found if problem]

    async def _until(self, stop: asyncio.Event, feed: asyncio.Task[None]) -> None:
        await stop.wait()
        self.stopping = True
        self._wake.set()
        await asyncio.wait([feed], timeout=2)
        feed.cancel()
        await self.keeper.empty(self.settings.worker_drain_seconds)
        for watch in list(self.keeper.watches()):
            watch.revoke("handed back at shutdown")
        await self.keeper.empty(5)

    # -- finding work ----------------------------------------------------------------------------------

    async def _feed(self) -> None:
        while not self.stopping:
            if not await self.gate.wait_open(POLL):
                continue
            self._wake.clear()
            try:
                await within(STEP_TIMEOUT, self._plan())
                await within(STEP_TIMEOUT, self._claim())
            except Exception as error:
                await self._troubled(error)
                continue
            self.trouble, self._turned = None, time.monotonic()
            await self._sleep()

    async def _plan(self) -> None:
        """Turn due ticks into rows."""
        full = time.monotonic() >= self._next_full_pass
        now = self._clock.now()
        due = [job for name, job in self.jobs.items() if full or passed(self._agenda[name], now)]
        if not due:
            return
        if full:
            await cron_planner.register(due)
        grace = timedelta(seconds=self.settings.worker_cron_grace_seconds)
        plans = await cron_planner.plan_ticks(due, grace, self._draw)
        self._agenda |= {name: plan.next_due for name, plan in plans.items()}
        if full:
            self._next_full_pass = time.monotonic() + FULL_PASS

    async def _claim(self) -> None:
        """Start what waits, as far as there is room."""
        held, asked = self.keeper.held, time.monotonic()
        claim = await cron_store.claim(
            self.jobs.values(),
            room=max(0, self.slots.count - len(held)),
            runner=self.keeper.runner,
            lease=self.keeper.lease,
            held=held.keys(),
        )
        now = time.monotonic()
        self._clock.set(claim.now)
        self._next_try = claim.next_try
        attempts = [Attempt.of(self.jobs[row.job], row, now, asked) for row in claim.runs]
        held |= {attempt.id: attempt for attempt in attempts}
        self.slots.add(attempts)

    async def _sleep(self) -> None:
        """Until the next tick or retry is due, a run ends, or it is time to look what others have added."""
        times = [at for at in (self._next_try, *self._agenda.values()) if at is not None]
        seconds = min(((at - self._clock.now()).total_seconds() for at in times), default=POLL)
        try:
            async with asyncio.timeout(min(POLL, max(SHORTLY, seconds))):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _troubled(self, error: Exception) -> None:
        """The database is away, or something is wrong with it: no run pays for it."""
        outcome = classify(error)
        if isinstance(error, TimeoutError):
            await forget_idle_connections()
            self.gate.close("database: no answer")
        elif isinstance(outcome, Down):
            self.gate.close(outcome.reason)
        elif isinstance(error, IntegrityError):  # two schedulers and two runs of one job
            await asyncio.sleep(SHORTLY)
        else:
            if self.trouble in (None, NOT_STARTED):
                logger.error("nothing can be run: %s", describe(error))
            self.trouble = describe(error)
            await asyncio.sleep(POLL)

    # -- running ---------------------------------------------------------------------------------------

    async def _handle(self, attempt: Attempt) -> None:
        outcome = await attempt.decide(attempt.job.attempts or self.settings.worker_max_deliveries)
        if isinstance(outcome, Done):
            self.gate.succeeded()
        else:
            if isinstance(outcome, Down):
                self.gate.close(outcome.reason)
            await self.keeper.settle(attempt, outcome)
        self.keeper.held.pop(attempt.id, None)
        self._wake.set()


class DatabaseClock:
    """What the database's clock shows, without asking it each time."""

    def __init__(self) -> None:
        self._shown, self._at = datetime.now(UTC), time.monotonic()

    def set(self, shown: datetime) -> None:
        """It shows `shown` now."""
        self._shown, self._at = shown, time.monotonic()

    def now(self) -> datetime:
        """What it shows now; at first what the machine's clock shows."""
        return self._shown + timedelta(seconds=time.monotonic() - self._at)


def passed(due: datetime | None, now: datetime) -> bool:
    """Whether a due time has come."""
    return due is not None and due <= now

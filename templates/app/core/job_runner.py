"""Runs jobs whose ids somebody brings: claims them, keeps their leases, notes what became of them.

One for each event loop. It knows nothing of what brought the id.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_store
from app.core.database import get_session
from app.core.deadline import Watch, end, enforce, within
from app.core.failures import classify, describe
from app.core.gate import forget_idle_connections
from app.core.job_attempt import CANCELLED, LOST, Attempt
from app.core.job_settings import JobSettings
from app.core.job_store import Settlement
from app.core.job_upkeep import note_ends
from app.core.outcomes import Dead

T = TypeVar("T")

STEP_TIMEOUT = 10.0
SOON = 0.2
TOGETHER = 0.05  # what is cancelled meanwhile is heard of at once
# A worker waits as long for a database that is away; then the dispatcher brings the job again.
PATIENCE = 45.0
logger = logging.getLogger(__name__)


class JobRunner:
    """Runs any number of jobs side by side."""

    def __init__(self, settings: JobSettings, *, lazy: bool = True) -> None:
        self.settings = settings
        self._lazy = lazy  # `loops` run while there are jobs; else somebody else runs them
        self.runner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.held: set[Attempt] = set()
        self.hurry = asyncio.Event()
        """Set it to have cancellations looked for now."""
        self._loops: list[asyncio.Task[None]] = []

    async def run(self, id_: uuid.UUID) -> None:
        """Make an attempt at the job, unless it is not due, done, or in other hands."""
        asked = time.monotonic()
        row = await self._patiently(lambda: job_store.claim(id_, self.runner, self.settings.lease))
        if row is not None:
            await self.make(Attempt.of(row, asked))

    async def make(self, attempt: Attempt) -> None:
        """Make an attempt at a job that was claimed."""
        self.held.add(attempt)
        keep = asyncio.get_running_loop().call_later(SOON, self._keep)  # most jobs need none of it
        try:
            settlement = await self._decide(attempt)
            if settlement is not None:
                await self._settle(attempt, settlement)
        finally:
            keep.cancel()
            self.held.remove(attempt)
            if self._loops and not self.held:
                loops, self._loops = self._loops, []
                await end(loops)

    async def _decide(self, attempt: Attempt) -> Settlement | None:
        try:
            return await attempt.decide()
        except asyncio.CancelledError:
            # Not by us: a function that blocks the loop has met Celery's limit, or the process ends.
            await self._settle(attempt, attempt.called_off())
            raise

    async def _settle(self, attempt: Attempt, settlement: Settlement) -> None:
        async def note() -> None:
            async with get_session() as session:
                row = await job_store.settle(session, attempt.id, attempt.number, settlement)
                if row is None:
                    logger.warning("%s: it is no longer ours", attempt)
                else:
                    await note_ends(session, [row], settlement.detail)

        await attempt.flush()
        await self._patiently(note)

    async def _patiently(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """The result of a step in the database, tried again while that is away. None when it did not come
        back: then the lease lapses, or the message counts as lost, and a dispatcher sees to the job.
        """
        gives_up, wait = time.monotonic() + PATIENCE, 0.1
        while True:
            try:
                return await within(STEP_TIMEOUT, step())
            except Exception as error:  # `classify` tells; a bug is raised on
                if isinstance(error, TimeoutError):
                    await forget_idle_connections()
                elif isinstance(classify(error), Dead):
                    raise
                if time.monotonic() > gives_up:
                    logger.warning("the database is away: %s", describe(error))
                    return None
            await asyncio.sleep(random.uniform(wait / 2, wait))  # jitter, not a secret
            wait = min(2.0, wait * 2)

    def late(self) -> str | None:
        """Why others may take over what is held; None when they may not. Called from another thread."""
        oldest = min((attempt.renewed for attempt in list(self.held)), default=time.monotonic())
        age = time.monotonic() - oldest
        return f"leases not renewed for {age:.0f} s" if age > self.settings.job_lease_seconds else None

    # -- leases ----------------------------------------------------------------------------------------

    def _keep(self) -> None:
        if self._lazy and not self._loops:
            self._loops = [asyncio.ensure_future(loop) for loop in self.loops()]

    def loops(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs beside the jobs, for ever."""
        yield self._beat()
        yield enforce(self._watches)

    def _watches(self) -> Iterator[Watch]:
        return (attempt.watch for attempt in self.held)

    async def _beat(self) -> None:
        """Renew the leases, write progress and hear of cancellations, for ever, on a connection of its own:
        jobs may use up the pool.
        """
        while True:
            try:
                async with get_session() as session:
                    await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                    while True:
                        with suppress(TimeoutError):
                            await asyncio.wait_for(self.hurry.wait(), self.settings.job_poll_seconds)
                            await asyncio.sleep(TOGETHER)
                        self.hurry.clear()
                        await self._renew(session)
            except Exception as error:  # leases must be kept whatever a driver raises
                logger.debug("leases not renewed: %s", describe(error))
            self._let_go()
            await asyncio.sleep(min(0.5, self.settings.job_poll_seconds))

    async def _renew(self, session: AsyncSession) -> None:
        attempts, now = list(self.held), time.monotonic()
        if not attempts:
            return
        beat = job_store.beat(session, attempts, self.settings.lease)
        states = await within(STEP_TIMEOUT, beat)
        for attempt in attempts:
            self._heard(attempt, states.get((attempt.id, attempt.number)), now)

    def _heard(self, attempt: Attempt, state: str | None, now: float) -> None:
        if state == "running":
            attempt.renewed = now
        elif state == "cancelling":
            attempt.renewed = now
            attempt.watch.revoke(CANCELLED)
        elif attempt in self.held:
            attempt.watch.revoke(LOST)

    def _let_go(self) -> None:
        """Stop what others may have taken over by now."""
        for attempt in self.held:
            if time.monotonic() - attempt.renewed > self.settings.job_lease_seconds:
                attempt.watch.revoke("its lease could not be renewed")

"""Looks after the runs that a scheduler holds: keeps their leases, and notes what became of them."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.core import cron_store
from app.core.cron_attempt import Attempt
from app.core.database import get_session
from app.core.deadline import Watch, within
from app.core.failures import describe
from app.core.outcomes import Dead, Down, Postpone, Retry
from app.core.stuck import end_stuck_sessions
from app.core.worker_settings import WorkerSettings

STEP_TIMEOUT = 10.0
UPKEEP_EVERY = 10.0
logger = logging.getLogger(__name__)


class Keeper:
    """The runs in hand, `held`, by their id."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.runner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.lease = timedelta(seconds=settings.worker_lease_seconds)
        self.held: dict[int, Attempt] = {}

    def watches(self) -> Iterator[Watch]:
        """The deadlines of all runs in hand."""
        return (attempt.watch for attempt in self.held.values())

    def late(self) -> str | None:
        """Why others may take over what is in hand; None when they may not. Called from another thread."""
        oldest = min((attempt.renewed for attempt in list(self.held.values())), default=time.monotonic())
        age = time.monotonic() - oldest
        return f"leases not renewed for {age:.0f} s" if age > self.lease.total_seconds() else None

    async def empty(self, timeout: float) -> None:
        """Wait until what was started is done and noted, at most `timeout` seconds."""
        ends = time.monotonic() + timeout
        while self.held and time.monotonic() < ends:
            await asyncio.sleep(0.02)

    # -- leases ----------------------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Renew the leases, for ever, on a connection of its own: runs may use up the pool."""
        while True:
            try:
                async with get_session() as session:
                    await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                    while True:
                        await self._renew(session)
                        await asyncio.sleep(self.settings.worker_heartbeat_seconds)
            except Exception as error:
                logger.debug("leases not renewed: %s", describe(error))
            self._let_go()
            await asyncio.sleep(min(1.0, self.settings.worker_heartbeat_seconds))

    async def _renew(self, session: AsyncSession) -> None:
        attempts = list(self.held.values())
        if not attempts:
            return
        now = time.monotonic()
        ids = [attempt.id for attempt in attempts]
        ours = await within(STEP_TIMEOUT, cron_store.renew(session, ids, self.runner, self.lease))
        for attempt in attempts:
            if attempt.id in ours:
                attempt.renewed = now
            elif attempt.id in self.held:
                attempt.watch.revoke("another scheduler has taken it over")

    def _let_go(self) -> None:
        """Stop what others may have taken over by now."""
        now = time.monotonic()
        for attempt in list(self.held.values()):
            if now - attempt.renewed > self.lease.total_seconds():
                attempt.watch.revoke("its lease could not be renewed")

    # -- ends ------------------------------------------------------------------------------------------

    async def settle(self, attempt: Attempt, outcome: Retry | Postpone | Down | Dead) -> None:
        """Note that an attempt did not succeed, and repeat that until the database has it."""
        outcome, pause = self._in_time(attempt, outcome)
        logger.log(
            logging.ERROR if isinstance(outcome, Dead) else logging.WARNING, "%s: %s", attempt, outcome
        )
        wait = 0.1
        while True:
            try:
                note = cron_store.settle(attempt.id, attempt.number, outcome, pause)
                return await within(STEP_TIMEOUT, note)
            except Exception as error:
                logger.debug("%s: not noted yet: %s", attempt, describe(error))
            await asyncio.sleep(random.uniform(wait / 2, wait))
            wait = min(2.0, wait * 2)

    def _in_time(
        self, attempt: Attempt, outcome: Retry | Postpone | Down | Dead
    ) -> tuple[Retry | Postpone | Down | Dead, float]:
        """The outcome and the pause before the next attempt; it must be over before the deadline."""
        match outcome:
            case Retry(reason, after):
                pause = self.settings.retry_policy.pause(attempt.counted, after)
                if time.monotonic() + pause >= attempt.ends:
                    return Dead(f"no time for another attempt before its deadline: {reason}"), 0.0
                return outcome, pause
            case Postpone(after=after):
                return outcome, after
        return outcome, 0.0

    async def upkeep(self) -> None:
        """Free what frozen schedulers hold, give up what is past its deadline, delete old runs, for ever."""
        keep = timedelta(days=self.settings.worker_cron_keep_days)
        while True:
            await asyncio.sleep(UPKEEP_EVERY * random.uniform(0.8, 1.2))
            try:
                await end_stuck_sessions("cron_job")
                await end_stuck_sessions("cron_run")
                for row in await cron_store.expire(self.lease):
                    logger.error("cron job %s %s: %s", row.job, row.due_at, row.error)
                while await cron_store.prune(keep):
                    await asyncio.sleep(0.1)
            except Exception as error:
                logger.debug("no upkeep: %s", describe(error))

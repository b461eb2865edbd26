"""The gate in front of the handlers: closed while the database is away, so that no message pays for it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

from sqlalchemy import text

from app.core.database import get_session
from app.core.deadline import Watch, within

PROBE_TIMEOUT = 5.0
DOUBT_AFTER = 10.0
LONGEST_PAUSE = 5.0
logger = logging.getLogger(__name__)


class Gate:
    """Open while the database answers. `reason` says why it is closed."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._opened = asyncio.Event()
        self._opened.set()
        self._closed = asyncio.Event()
        self._failures = 0

    def close(self, reason: str) -> None:
        """Stop giving out work; `watch` opens the gate again."""
        if self.reason is None:
            logger.warning("paused: %s", reason)
            self.reason = reason
            self._opened.clear()
            self._closed.set()

    def succeeded(self) -> None:
        """A message was done: the next outage starts with short pauses again."""
        self._failures = 0

    @property
    def unproven(self) -> bool:
        """Whether no message was done since the gate was closed: half open."""
        return self._failures > 0

    async def wait_open(self, timeout: float) -> bool:
        """Whether the gate is open, waiting up to `timeout` seconds for it."""
        if self.reason is None:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._opened.wait()
        except TimeoutError:
            return False
        return True

    async def watch(self) -> None:
        """Probe the database while the gate is closed. The pause grows also when the probe succeeds and the
        messages fail again (a full disk, a read-only replica), so that this is never a hot loop.
        """
        while True:
            await self._closed.wait()
            self._failures += 1
            bound = min(LONGEST_PAUSE, 0.25 * 2 ** min(self._failures, 10))
            await asyncio.sleep(random.uniform(bound / 2, bound))  # jitter, not a secret
            if await database_answers():
                logger.warning("going on: the database answers again")
                self.reason = None
                self._closed.clear()
                self._opened.set()

    async def doubt(self, watches: Callable[[], Iterable[Watch]]) -> None:
        """Ask the database when handlers take long: one that has gone silent would hold them, and their
        messages, until their deadline.
        """
        while True:
            await asyncio.sleep(DOUBT_AFTER / 2)
            now = time.monotonic()
            slow = any(watch.age(now) > DOUBT_AFTER for watch in watches())
            if slow and self.reason is None and not await database_answers():
                self.close("database: no answer")
                for watch in list(watches()):
                    watch.revoke("the database does not answer")


async def database_answers() -> bool:
    """Whether the project's database answers within five seconds."""
    try:
        await within(PROBE_TIMEOUT, select_one())
    except Exception as error:  # whatever it is, it is not an answer
        if isinstance(error, TimeoutError):
            await forget_idle_connections()
        return False
    return True


async def select_one() -> None:
    """The smallest question there is."""
    async with get_session() as session:
        await session.execute(text("SELECT 1"))


async def forget_idle_connections() -> None:
    """Start a new pool. Behind a firewall that dropped its state the idle connections are dead without
    knowing, and each would cost one message a full deadline.
    """
    async with get_session() as session:
        session.get_bind().engine.dispose(close=False)


async def close_connections() -> None:
    """Close the pool at the end of the process."""
    async with get_session() as session:
        engine = session.bind
    dispose = getattr(engine, "dispose", None)
    if dispose is not None:
        await dispose()

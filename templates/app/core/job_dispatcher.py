"""Sends the ids of jobs that are due to workers, and sends again what got lost on the way.

A message too many is harmless: of all that are sent for a job one starts it. Any number of dispatchers may
run, and what one was about to do when it died the others do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import Executable, Row, text

from app.core import job_letters
from app.core.broker import BrokerDownError, Loss
from app.core.database import get_session
from app.core.dead_letters import DeadLetters
from app.core.deadline import together, within
from app.core.failures import describe
from app.core.gate import forget_idle_connections
from app.core.job_settings import JobSettings
from app.core.job_store import CHANNEL, HELD
from app.core.job_upkeep import Upkeep
from app.core.listen import listen
from app.core.outcomes import RefusedToStartError

STEP_TIMEOUT = 15.0
CHECK_EVERY = 1.0
SWEEP_EVERY = 5.0
REFUSED_PAUSE = timedelta(seconds=10)
NOT_STARTED = "has not started"
logger = logging.getLogger(__name__)

# Noted first and sent then, so that no transaction waits for the broker. A dispatcher that dies in between
# leaves jobs that look lost.
TAKE = text(
    """
    UPDATE job SET sent_at = clock_timestamp(), sends = sends + 1
    WHERE id = ANY (ARRAY(
        SELECT id FROM job
        WHERE state = 'queued' AND sent_at IS NULL AND next_try_at <= now() AND via = :via
        ORDER BY priority DESC, next_try_at LIMIT :batch FOR UPDATE SKIP LOCKED))
    RETURNING id, queue, sends, priority, next_try_at
    """
)
NOT_SENT = text(
    """
    UPDATE job SET sent_at = NULL, sends = sends - 1, next_try_at = next_try_at + CAST(:pause AS interval)
    WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'queued' AND sent_at IS NOT NULL
    """
)
# Brokers keep the order of a queue. A job that waits while one that was sent later has been started is lost,
# or in the hands of a worker that is dead. Where nothing was started for a while, either nobody has time, or
# all that waits is lost: some are sent again, to find out. Each time the patience with a job doubles.
LOST = text(
    f"""
    WITH late AS MATERIALIZED (
        SELECT id, queue, priority, sent_at, power(2, least(sends, 8) - 1) AS times
        FROM job WHERE state = 'queued' AND via = :via
          AND sent_at < now() - least(CAST(:overtaken AS interval), CAST(:lonely AS interval))
        ORDER BY sent_at LIMIT 10000),
    moving AS MATERIALIZED (
        SELECT queue, priority, max(sent_at) AS sent_at, max(started_at) AS started_at
        FROM ((SELECT queue, priority, sent_at, started_at FROM job WHERE state IN {HELD} LIMIT 1000)
              UNION ALL
              (SELECT queue, priority, sent_at, started_at FROM job WHERE finished_at IS NOT NULL
               ORDER BY finished_at DESC LIMIT 1000)) AS recent
        WHERE started_at >= sent_at GROUP BY queue, priority),
    overtaken AS (
        SELECT late.id FROM late JOIN moving USING (queue, priority)
        WHERE late.sent_at < now() - CAST(:overtaken AS interval) * times
          AND late.sent_at < moving.sent_at - interval '1 s'),
    lonely AS (
        SELECT late.id FROM late LEFT JOIN moving USING (queue, priority)
        WHERE late.sent_at < now() - CAST(:lonely AS interval) * times
          AND coalesce(moving.started_at < now() - CAST(:lonely AS interval), true)
        ORDER BY late.sent_at LIMIT 100)
    UPDATE job SET sent_at = NULL
    WHERE id = ANY (ARRAY(
        SELECT id FROM job WHERE id IN (SELECT id FROM overtaken UNION SELECT id FROM lonely)
          AND state = 'queued' FOR UPDATE SKIP LOCKED))
    """  # noqa: S608  # HELD is ours
)
ALL_LOST = text(
    """
    UPDATE job SET sent_at = NULL
    WHERE state = 'queued' AND via = :via AND sent_at > now() - CAST(:since AS interval)
    """
)
REACH = {Loss.ALL: timedelta(days=1000), Loss.RECENT: timedelta(seconds=60)}


class Carrier(Protocol):
    """What brings ids to workers."""

    via: str

    async def send(self, jobs: Sequence[Row[Any]]) -> list[str | None]:
        """Bring the `id` of each of `jobs` to a worker of its `queue`; `sends` counts how often that was
        done. For each None, or why it cannot be, such as a queue that is not there.

        Fewer results than jobs: it is not known what became of the rest. Raises BrokerDownError, within a
        bounded time, when nothing is known of any.
        """

    async def loss(self, owner: str) -> Loss:
        """See Broker."""

    async def remember(self, owner: str) -> None:
        """See Broker."""

    async def close(self) -> None:
        """Close the connections."""


class JobDispatcher:
    """Any number of them may run."""

    name = "job_dispatcher"

    def __init__(self, carrier: Carrier, settings: JobSettings) -> None:
        self.carrier = carrier
        self.settings = settings
        self._wake = asyncio.Event()
        self._trouble: str | None = NOT_STARTED
        self._upkeep = Upkeep(settings, self._wake.set)
        self._turned = time.monotonic()
        self._next_check = self._next_sweep = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; a batch that has begun is finished first."""
        send = asyncio.ensure_future(self._send(stop))
        hear = listen(CHANNEL, self._wake.set, self.settings.job_poll_seconds)
        try:
            await together(
                self._until(stop, send), [send, hear, self._upkeep.recover(), self._upkeep.prune()]
            )
        finally:
            await self.carrier.close()

    async def _until(self, stop: asyncio.Event, send: asyncio.Task[None]) -> None:
        await stop.wait()
        self._wake.set()
        await asyncio.wait([send], timeout=STEP_TIMEOUT)

    def problems(self) -> list[str]:
        """Why nothing is being sent; empty when all is well."""
        found = [problem for problem in (self._trouble, self._upkeep.problem) if problem]
        age = time.monotonic() - self._turned
        if age > 2 * STEP_TIMEOUT:
            found.append(f"has not turned for {age:.0f} s")
        return [f"{self.name}: {problem}" for problem in found]

    def dead_letters(self) -> DeadLetters:
        """Jobs that have failed, for the command `app.workers.dead_letters`."""
        return job_letters.dead_letters()

    # -- sending ---------------------------------------------------------------------------------------

    async def _send(self, stop: asyncio.Event) -> None:
        pause = 0.1
        while not stop.is_set():
            self._turned = time.monotonic()
            self._wake.clear()
            try:
                await within(STEP_TIMEOUT, self._look_for_losses())
                more = await self._send_batch()
            except RefusedToStartError:
                raise
            except Exception as error:  # database or broker away: no job pays for it
                await self._troubled(error)
                await asyncio.sleep(random.uniform(pause / 2, pause))  # jitter, not a secret
                pause = min(2.0, pause * 2)
                continue
            self._trouble, pause = None, 0.1
            if not more:
                await self._sleep()

    async def _send_batch(self) -> bool:
        """Send the next jobs that are due; whether there may be more."""
        values = {"via": self.carrier.via, "batch": self.settings.job_batch}
        rows = await within(STEP_TIMEOUT, execute(TAKE, values))
        rows = sorted(rows, key=lambda row: (-row.priority, row.next_try_at))
        if not rows:
            return False
        results: list[str | None] = []
        try:
            results = await self.carrier.send(rows)
        finally:
            if rest := [row.id for row in rows[len(results) :]]:
                await not_sent(rest)
        refused = [row for row, reason in zip(rows, results, strict=False) if reason is not None]
        if refused:  # the next deployment may bring their queue
            logger.error("%d jobs cannot be sent, the first: %s", len(refused), next(filter(None, results)))
            await not_sent([row.id for row in refused], REFUSED_PAUSE)
        return bool(rest) or len(rows) == self.settings.job_batch

    async def _look_for_losses(self) -> None:
        """Have sent again what did not arrive."""
        now = time.monotonic()
        if now >= self._next_sweep:
            patience = self.settings.job_overtaken_seconds, self.settings.job_lonely_seconds
            overtaken, lonely = (timedelta(seconds=seconds) for seconds in patience)
            await execute(LOST, {"via": self.carrier.via, "overtaken": overtaken, "lonely": lonely})
            self._next_sweep = now + min(SWEEP_EVERY, min(patience) / 4)
        if now >= self._next_check:
            owner = f"jobs:{await database_name()}"
            loss = await self.carrier.loss(owner)
            if loss is not Loss.NONE:
                await execute(ALL_LOST, {"via": self.carrier.via, "since": REACH[loss]})
                # Only now: a dispatcher that dies in between leaves the work to the next one.
                await self.carrier.remember(owner)
                logger.warning("the broker lost %s: what was sent is sent again", loss.value)
            self._next_check = now + CHECK_EVERY

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(self.settings.job_poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _troubled(self, error: Exception) -> None:
        problem = describe(error)
        if self._trouble in (None, NOT_STARTED):
            logger.warning("no job can be sent: %s", problem)
        if isinstance(error, TimeoutError):
            await forget_idle_connections()
        if not isinstance(error, BrokerDownError | OSError | TimeoutError):
            logger.debug("the error in full", exc_info=error)
        self._trouble = problem


async def not_sent(ids: Sequence[uuid.UUID], pause: timedelta = timedelta()) -> None:
    """Have jobs sent another time, after a pause. Some may have arrived all the same."""
    await within(STEP_TIMEOUT, execute(NOT_SENT, {"ids": list(ids), "pause": pause}))


async def execute(statement: Executable, values: dict[str, Any]) -> Sequence[Row[Any]]:
    """Run one statement in a transaction of its own; its rows, if it returns any."""
    async with get_session() as session:
        result: Any = await session.execute(statement, values)
        return list(result) if result.returns_rows else []


async def database_name() -> str:
    """Which database the jobs are in, without asking it: two environments may share a broker by mistake."""
    async with get_session() as session:
        url = session.get_bind().engine.url
    return f"{url.host}:{url.port}/{url.database}"

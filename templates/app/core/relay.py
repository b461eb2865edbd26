"""Sends what the outbox holds: after the commit, in order per key, until the broker has confirmed it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.broker import NOT_YET, Broker, BrokerDownError, Loss, Outgoing
from app.core.database import get_session
from app.core.deadline import together, within
from app.core.failures import describe
from app.core.gate import forget_idle_connections
from app.core.outbox import CHANNEL, LANES
from app.core.outcomes import RefusedToStartError
from app.core.stuck import end_stuck_sessions
from app.core.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)

LOCK_SPACE = 0x6F7574  # "out": keeps our advisory locks apart from the project's own
STEP_TIMEOUT = 15.0
LISTEN_CHECK = 15.0
RECENT = timedelta(seconds=60)
NOT_STARTED = "has not started"
CHECK_EVERY = 1.0
PRUNE_EVERY = 30.0

# A lane has one sender at a time, so the rows of a key leave in order; the lock ends with the transaction,
# so a dead relay holds nothing. FOR UPDATE reads the rows as they are once the lane is ours, not as they
# were when the statement began. A relay that is paused inside its transaction loses its session after
# half a minute.
TAKE = text(
    """
    WITH lanes AS MATERIALIZED (
        SELECT lane FROM generate_series(0, :last_lane) AS numbers (lane)
        WHERE set_config('idle_in_transaction_session_timeout', '30s', true) IS NOT NULL
          AND EXISTS (SELECT FROM outbox_message o
                      WHERE o.lane = numbers.lane AND o.sent_at IS NULL AND o.refused IS NULL)
          AND pg_try_advisory_xact_lock(:space, lane))
    SELECT o.seq, o.topic, o.key, o.body, o.message_id
    FROM lanes CROSS JOIN LATERAL (
        SELECT seq, topic, key, body, message_id FROM outbox_message
        WHERE lane = lanes.lane AND sent_at IS NULL AND refused IS NULL
        ORDER BY seq LIMIT :batch FOR UPDATE SKIP LOCKED) AS o
    ORDER BY o.seq
    """
)
SENT = text("UPDATE outbox_message SET sent_at = clock_timestamp() WHERE seq = ANY(:seqs)")
REFUSED = text("UPDATE outbox_message SET refused = :reason WHERE seq = :seq")
TRY_AGAIN = text(
    """
    UPDATE outbox_message SET refused = NULL WHERE seq = ANY (ARRAY(
        SELECT seq FROM outbox_message WHERE refused IS NOT NULL AND starts_with(refused, :reason)
        ORDER BY seq LIMIT 1000 FOR UPDATE SKIP LOCKED))
    """
)
RESEND_ALL = text("UPDATE outbox_message SET sent_at = NULL WHERE sent_at > now() - CAST(:keep AS interval)")
RESEND_RECENT = text(
    """
    UPDATE outbox_message SET sent_at = NULL
    WHERE sent_at > (SELECT max(sent_at) FROM outbox_message) - CAST(:keep AS interval)
    """
)
PRUNE = text(
    """
    DELETE FROM outbox_message WHERE seq = ANY (ARRAY(
        SELECT seq FROM outbox_message WHERE sent_at < now() - CAST(:keep AS interval)
        LIMIT 1000 FOR UPDATE SKIP LOCKED))
    """
)


class OutboxRelay:
    """Any number of them may run; what one holds when it dies the others send."""

    name = "outbox_relay"

    def __init__(self, broker: Broker, settings: WorkerSettings) -> None:
        self.broker = broker
        self.settings = settings
        self._wake = asyncio.Event()
        self._trouble: str | None = NOT_STARTED
        self._turned = time.monotonic()
        self._next_check = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; a batch that has begun is finished first."""
        send = asyncio.ensure_future(self._send(stop))
        try:
            await together(self._until(stop, send), [send, self._listen(), self._prune()])
        finally:
            await self.broker.close()

    async def _until(self, stop: asyncio.Event, send: asyncio.Task[None]) -> None:
        await stop.wait()
        self._wake.set()
        await asyncio.wait([send], timeout=self.settings.worker_drain_seconds)

    def problems(self) -> list[str]:
        """Why nothing is being sent; empty when all is well."""
        found = [self._trouble] if self._trouble else []
        age = time.monotonic() - self._turned
        if age > STEP_TIMEOUT + 10:
            found.append(f"has not turned for {age:.0f} s")
        return [f"{self.name}: {problem}" for problem in found]

    # -- sending ---------------------------------------------------------------------------------------

    async def _send(self, stop: asyncio.Event) -> None:
        pause = 0.1
        while not stop.is_set():
            self._turned = time.monotonic()
            self._wake.clear()
            try:
                await within(STEP_TIMEOUT, self._check())
                sent = await within(STEP_TIMEOUT, self._send_batch())
            except RefusedToStartError:
                raise
            except Exception as error:  # database or broker away: no row pays for it
                self._report(error)
                if isinstance(error, TimeoutError):
                    await forget_idle_connections()
                await asyncio.sleep(random.uniform(pause / 2, pause))  # jitter, not a secret
                pause = min(2.0, pause * 2)
                continue
            self._trouble, pause = None, 0.1
            if not sent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.settings.outbox_poll_seconds):
                        await self._wake.wait()

    async def _send_batch(self) -> int:
        """Send the next rows of all lanes that no other relay holds; how many."""
        async with get_session() as session:
            values = {"last_lane": LANES - 1, "space": LOCK_SPACE, "batch": self.settings.outbox_batch}
            rows = (await session.execute(TAKE, values)).all()
            if rows:
                messages = [Outgoing(r.topic, r.key, r.body.encode(), str(r.message_id)) for r in rows]
                results = await self.broker.publish(messages)
                await mark(session, [row.seq for row in rows], results)
            return len(rows)

    async def _check(self) -> None:
        """Send again what the broker has confirmed and lost; consumers skip what they have done."""
        now = time.monotonic()
        if now < self._next_check:
            return
        owner = f"{self.settings.outbox_source}:{await database_name()}"
        loss = await self.broker.loss(owner)
        if loss is not Loss.NONE:
            again = await resend(loss, self.settings.outbox_keep)
            # Only now: a relay that dies in between leaves the work to the next one.
            await self.broker.remember(owner)
            if again:
                logger.warning("the broker lost %s: %d messages are sent again", loss.value, again)
        self._next_check = now + CHECK_EVERY

    def _report(self, error: Exception) -> None:
        problem = describe(error)
        if self._trouble in (None, NOT_STARTED):
            logger.warning("nothing can be sent: %s", problem)
        if not isinstance(error, BrokerDownError | OSError | TimeoutError):
            logger.debug("the error in full", exc_info=error)
        self._trouble = problem

    # -- waking up and pruning -------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Wake up when a transaction with a message commits. Only a hint: a lost one costs a poll's time."""
        while True:
            try:
                async with get_session() as session:
                    connection = await session.connection()
                    driver: Any = (await connection.get_raw_connection()).driver_connection
                    if not hasattr(driver, "add_listener"):  # not asyncpg: polling has to do
                        return
                    await self._hear(driver)
            except Exception as error:
                logger.debug("not listening: %s", describe(error))
            await asyncio.sleep(self.settings.outbox_poll_seconds)

    async def _hear(self, driver: Any) -> None:
        """Listen on a connection until it breaks; a look now and then finds one that broke in silence."""
        await driver.add_listener(CHANNEL, self._notified)
        try:
            while True:
                await asyncio.sleep(LISTEN_CHECK)
                async with asyncio.timeout(LISTEN_CHECK):
                    await driver.execute("SELECT 1")
        finally:
            with suppress(Exception):
                await driver.remove_listener(CHANNEL, self._notified)

    def _notified(self, *notification: object) -> None:  # noqa: ARG002  # asyncpg's signature
        self._wake.set()

    async def _prune(self) -> None:
        """Delete sent rows that are older than the retention, a thousand at a time."""
        while True:
            await asyncio.sleep(PRUNE_EVERY * random.uniform(0.8, 1.2))
            try:
                await end_stuck_sessions("outbox_message")
                await try_again()
                while await prune(self.settings.outbox_keep):
                    await asyncio.sleep(0.1)
            except Exception as error:
                logger.debug("not pruned: %s", describe(error))


async def database_name() -> str:
    """Which database the outbox is in, without asking it: two environments may share a broker by mistake."""
    async with get_session() as session:
        url = session.get_bind().engine.url
    return f"{url.host}:{url.port}/{url.database}"


async def mark(session: AsyncSession, seqs: Sequence[int], results: Sequence[str | None]) -> None:
    """Note what the broker said of the first `len(results)` rows; the others are sent again."""
    confirmed = [seq for seq, reason in zip(seqs, results, strict=False) if reason is None]
    if confirmed:
        await session.execute(SENT, {"seqs": confirmed})
    for seq, reason in zip(seqs, results, strict=False):
        if reason is not None:
            level = logging.WARNING if reason.startswith(NOT_YET) else logging.ERROR
            logger.log(level, "outbox message %d is refused by the broker: %s", seq, reason)
            await session.execute(REFUSED, {"seq": seq, "reason": reason})


async def try_again() -> None:
    """Make rows pending again whose refusal may have passed, such as that of a queue not there yet."""
    async with get_session() as session:
        await session.execute(TRY_AGAIN, {"reason": NOT_YET})


async def resend(loss: Loss, keep: timedelta) -> int:
    """Make sent rows pending again, as far back as the loss reaches and rows are kept; how many."""
    statement, window = (RESEND_ALL, keep) if loss is Loss.ALL else (RESEND_RECENT, RECENT)
    async with get_session() as session:
        return int(getattr(await session.execute(statement, {"keep": window}), "rowcount", 0))


async def prune(keep: timedelta) -> int:
    """Delete up to 1,000 rows that were sent longer than `keep` ago; how many."""
    async with get_session() as session:
        return int(getattr(await session.execute(PRUNE, {"keep": keep}), "rowcount", 0))

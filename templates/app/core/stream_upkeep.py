"""What keeps a stream consumer's group in order: leases, trimming, and rows that are no longer needed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from app.core import inbox
from app.core.deadline import Watch
from app.core.failures import describe
from app.core.gate import Gate
from app.core.redis_stream import REDIS_FAILURES, Entry, StreamGroup, is_missing_group
from app.core.stuck import end_stuck_sessions
from app.core.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)

TIDY_EVERY = 10.0
FORGET_CONSUMERS_AFTER = 3600.0


class InHand(Protocol):
    """A delivery that this worker holds."""

    entry: Entry
    watch: Watch


class Leases:
    """Renews the leases on what `held` returns, and calls off what was taken over."""

    def __init__(
        self, group: StreamGroup, held: Callable[[], Mapping[bytes, InHand]], settings: WorkerSettings
    ) -> None:
        self._group, self._held, self._settings = group, held, settings
        self._renewed = time.monotonic()

    async def keep(self) -> None:
        """Renew, for ever. A failure is made up for by the next round, or by whoever takes over."""
        while True:
            held = dict(self._held())
            try:
                lost = await self._group.renew(delivery.entry for delivery in held.values())
                self._renewed = time.monotonic()
            except REDIS_FAILURES as error:
                lost = set()
                if is_missing_group(error):  # then nobody can take over what we hold
                    self._renewed = time.monotonic()
            for id_ in lost:
                held[id_].watch.revoke("another worker has taken over")
            await asyncio.sleep(self._settings.worker_heartbeat_seconds)

    def problem(self) -> str | None:
        """Why others may take over what we hold; None when all is well."""
        age = time.monotonic() - self._renewed
        late = age > self._settings.worker_lease_seconds
        return f"leases not renewed for {age:.0f} s" if late else None


async def tidy(group: StreamGroup, gate: Gate, settings: WorkerSettings) -> None:
    """Trim the stream, remove long dead consumers and old inbox rows, for ever. Any consumer may do it, at
    any time; what fails now is done later.
    """
    while True:
        await asyncio.sleep(TIDY_EVERY * random.uniform(0.8, 1.2))
        try:
            await group.trim()
            await group.reap(FORGET_CONSUMERS_AFTER)
            if gate.reason is None:
                await end_stuck_sessions("inbox_message")
                await inbox.prune(settings.inbox_keep)
        except Exception as error:
            logger.debug("not tidied: %s", describe(error))

"""Slots: run deliveries side by side, at most so many at once, and say when there is room for more."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeVar

from app.core.deadline import Watch


class InHand(Protocol):
    """What a slot runs."""

    watch: Watch


D = TypeVar("D", bound=InHand)

# Fetch ahead what will start within this time: it saves round trips with quick handlers. With slow ones it
# would keep messages from workers that are free.
SOON_SECONDS = 0.05
MOST_AHEAD = 200


class Slots(Generic[D]):
    """`count` tasks that take deliveries from `ready` and run `handle`, one after the other."""

    def __init__(self, count: int, handle: Callable[[D], Awaitable[None]]) -> None:
        self.count = count
        self.ready: deque[D] = deque()
        self.running = 0
        self.hungry = asyncio.Event()
        self._handle = handle
        self._idle: deque[asyncio.Future[None]] = deque()
        self._waking = False
        self._pace = 1.0  # seconds that a handler takes, a moving average
        self._ahead = 0
        self._refill_below = 1

    def add(self, deliveries: Iterable[D]) -> None:
        """Run `deliveries` as soon as there are free slots."""
        self.ready.extend(deliveries)
        self._wake()

    def room(self) -> int:
        """How many deliveries may be fetched now; 0 while enough are ready to make a request worthwhile."""
        self._ahead = min(MOST_AHEAD, int(self.count * SOON_SECONDS / max(self._pace, 1e-6)))
        self._refill_below = max(1, self._ahead // 2)
        if len(self.ready) >= self._refill_below:
            return 0
        return max(0, self.count + self._ahead - self.running - len(self.ready))

    async def work(self) -> None:
        """One slot, for ever. While deliveries are ready it goes on without waiting."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        while True:
            while not self.ready:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                self._waking = False
            delivery = self.ready.popleft()
            self._wake()
            delivery.watch.task = task
            self.running += 1
            started = time.monotonic()
            try:
                await self._handle(delivery)
            finally:
                self.running -= 1
            self._pace += 0.1 * (time.monotonic() - started - self._pace)
            if len(self.ready) < self._refill_below and not self.hungry.is_set():
                self.hungry.set()
                # Lets the next request go out, so that the broker works while we do the rest.
                await asyncio.sleep(0)

    def _wake(self) -> None:
        """Wake one idle slot when there is work; it wakes the next. Quick handlers then need only a few."""
        if self.ready and self._idle and not self._waking:
            self._waking = True
            self._idle.popleft().set_result(None)

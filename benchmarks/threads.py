"""A meter for engines that run their handlers in threads. Standard library only, like `meter`."""

from __future__ import annotations

import asyncio
import threading

from benchmarks.meter import Meter


class FromThreads:
    """Stands in front of `meter`, which belongs to the event loop that makes this."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        loop = asyncio.get_running_loop()
        meter.tell = lambda event: loop.call_soon_threadsafe(event.set)

    def done(self, published_at: float) -> None:
        """See `Meter.done`."""
        with self._lock:
            self._meter.done(published_at)

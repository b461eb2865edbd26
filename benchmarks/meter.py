"""What a consumer process measures of itself: messages, time, processor time, memory and latencies.

Standard library only: peers that live in environments of their own import it too.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict


class Rate(TypedDict):
    """A backlog, worked off. `cpu_seconds` is the consumer's."""

    messages: int
    seconds: float
    cpu_seconds: float


class Latency(TypedDict):
    """Messages that arrived one by one; `latencies` are the seconds from publishing to done."""

    messages: int
    cpu_seconds: float
    latencies: list[float]


def cpu_seconds() -> float:
    """Processor time of this process and all its threads, user and system together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_memory_bytes() -> int:
    """The most resident memory that this process ever had.

    Linux hands `ru_maxrss` of the parent on to its children, over exec too, so the kernel's high-water mark
    of this very address space is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Meter:
    """Is told of every message when its work is done, which is after the commit where there is one.

    Four stretches follow each other: `warmup` messages of the backlog that are not measured (connections are
    opened, statements prepared), `count` messages that are, then of the `arrivals` a tenth that are not
    measured and the rest that are.
    """

    def __init__(self, *, warmup: int, count: int, arrivals: int) -> None:
        if warmup < 1 or count < 1:
            raise ValueError("a stretch begins with the end of a message: warmup and count must be 1 or more")
        self.warm = asyncio.Event()
        self.worked_off = asyncio.Event()
        self.finished = asyncio.Event()
        self.tell: Callable[[asyncio.Event], object] = asyncio.Event.set
        first, last = warmup + count + arrivals // 10, warmup + count + arrivals
        self._ends = [
            (warmup, self.warm),
            (warmup + count, self.worked_off),
            (first, None),
            (last, self.finished),
        ]
        self._marks: list[tuple[float, float]] = []
        self._first_timed = first
        self._next = warmup
        self._latencies: list[float] = []
        self.seen = 0

    def done(self, published_at: float) -> None:
        """A message was handled; `published_at` on the clock of `time.monotonic`, which processes share."""
        self.seen += 1
        if self.seen > self._first_timed:
            self._latencies.append(time.monotonic() - published_at)
        if self.seen == self._next:
            self._mark()

    def _mark(self) -> None:
        """A stretch ends here, or several when some of them are empty."""
        while len(self._marks) < len(self._ends) and self._ends[len(self._marks)][0] == self.seen:
            event = self._ends[len(self._marks)][1]
            self._marks.append((time.monotonic(), cpu_seconds()))
            if event is not None:
                self.tell(event)
        self._next = self._ends[min(len(self._marks), len(self._ends) - 1)][0]

    def rate(self) -> Rate:
        """The backlog's figures, from the end of the last message before it to the end of its last one."""
        (t0, cpu0), (t1, cpu1) = self._marks[0:2]
        count = self._ends[1][0] - self._ends[0][0]
        return Rate(messages=count, seconds=t1 - t0, cpu_seconds=cpu1 - cpu0)

    def latency(self) -> Latency:
        """The figures of what arrived one by one."""
        (_, cpu0), (_, cpu1) = self._marks[2:4]
        return Latency(messages=len(self._latencies), cpu_seconds=cpu1 - cpu0, latencies=self._latencies)

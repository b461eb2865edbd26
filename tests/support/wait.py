"""Waiting for a condition with a deadline, in place of sleeping and hoping.

A deadline says what a machine with processors to spare needs. Time in which processes stood in line for one
is not held against the condition: the kernel says how much that was, and a deadline grows by it, to twice
its length at most.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar, overload

T = TypeVar("T")

FIRST_INTERVAL_S = 0.01
LONGEST_INTERVAL_S = 0.2
PRESSURE = Path("/proc/pressure/cpu")


class DeadlinePassed(AssertionError):
    """The condition did not become true in time."""

    def __init__(self, message: str, deadline_s: float, last: object) -> None:
        super().__init__(f"not within {deadline_s:g} s: {message or 'the condition'}; last seen: {last!r}")


class NoLongerTrue(AssertionError):
    """The condition should have stayed true and did not."""


def starved_s() -> float:
    """Seconds since the machine started in which some process waited for a processor; 0 where unknown."""
    try:
        some = PRESSURE.read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


class _Polling:
    """The schedule of one wait: when to look again and when to give up."""

    def __init__(self, wait_s: float, *, patient: bool = True) -> None:
        self._end = time.monotonic() + wait_s
        self._last = self._end + wait_s * patient
        self._starved = starved_s()
        self._interval = FIRST_INTERVAL_S

    @property
    def over(self) -> bool:
        now = time.monotonic()
        return now >= self._last or (now >= self._end and now >= self._end + starved_s() - self._starved)

    def pause(self) -> float:
        """Seconds until the next look; they grow, so that a long wait does not burn a CPU."""
        left = self._end - time.monotonic()
        pause = min(self._interval, left) if left > 0 else self._interval
        self._interval = min(self._interval * 1.5, LONGEST_INTERVAL_S)
        return pause


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]],
    deadline_s: float = ...,
    message: str = ...,
    *,
    ignore: tuple[type[Exception], ...] = ...,
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T],
    deadline_s: float = ...,
    message: str = ...,
    *,
    ignore: tuple[type[Exception], ...] = ...,
) -> T: ...


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    deadline_s: float = 10.0,
    message: str = "",
    *,
    ignore: tuple[type[Exception], ...] = (),
) -> T:
    """Poll `condition`, a plain or an async function, until what it returns is true; return that.

    `ignore` names exceptions that mean "not yet", for example ConnectionError while a server restarts.

    Raises:
        DeadlinePassed: still false after `deadline_s` seconds.
    """
    polling = _Polling(deadline_s)
    while True:
        last: object
        try:
            value = condition()
            result = await value if inspect.isawaitable(value) else value
        except ignore as error:
            last = error
        else:
            if result:
                return result
            last = result
        if polling.over:
            raise DeadlinePassed(message, deadline_s, last)
        await asyncio.sleep(polling.pause())


def eventually_sync(
    condition: Callable[[], T],
    deadline_s: float = 10.0,
    message: str = "",
    *,
    ignore: tuple[type[Exception], ...] = (),
) -> T:
    """`eventually` for code without an event loop. It blocks: in an async test use `eventually`."""
    polling = _Polling(deadline_s)
    while True:
        last: object
        try:
            result = condition()
        except ignore as error:
            last = error
        else:
            if result:
                return result
            last = result
        if polling.over:
            raise DeadlinePassed(message, deadline_s, last)
        time.sleep(polling.pause())


async def stays(condition: Callable[[], object], for_s: float, message: str = "") -> None:
    """Check over and over that `condition` holds for `for_s` seconds: a proof that something does not happen.

    Raises:
        NoLongerTrue: it was false at one look.
    """
    polling = _Polling(for_s, patient=False)
    while True:
        value = condition()
        result = await value if inspect.isawaitable(value) else value
        if not result:
            raise NoLongerTrue(f"{message or 'the condition'} did not hold for {for_s:g} s: {result!r}")
        if polling.over:
            return
        await asyncio.sleep(polling.pause())

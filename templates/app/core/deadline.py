"""Deadlines that hold: work is cancelled when its time is up, and again until it ends.

Once is not enough. SQLAlchemy's pre-ping on asyncpg answers a cancellation with a ROLLBACK on the same
connection; when the database is silent that waits for ever (seen with SQLAlchemy 2.1.9, asyncpg 0.32).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

# Longer than SQLAlchemy's two seconds for closing a connection in order.
AGAIN = 3.0


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which has `seconds` to come up with it.

    Raises TimeoutError when it did not. Its cause is the cancellation, whose traceback shows where the work
    was waiting.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
        late = not task.done()
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=AGAIN)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not late:
        return task.result()
    try:
        task.result()
    except asyncio.CancelledError as cancelled:
        raise TimeoutError(f"not done within {seconds:g} s") from cancelled
    raise TimeoutError(f"not done within {seconds:g} s")


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until all of them have ended.

    Here, too, once is not enough: on Python 3.11 `asyncio.wait_for`, which redis-py 8.1 uses for sending,
    drops a cancellation that comes just when the sending is done.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)


async def together(
    main: Coroutine[Any, Any, None], loops: Iterable[Coroutine[Any, Any, None] | asyncio.Task[None]]
) -> None:
    """Run `loops` beside `main` until it returns; all have ended when this does.

    Raises what the first of them raised that failed. A TaskGroup cancels once only, see `end`.
    """
    lead = asyncio.ensure_future(main)
    tasks = [lead, *(asyncio.ensure_future(loop) for loop in loops)]
    running = set(tasks)
    try:
        while not lead.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        await end(tasks)


class Watch:
    """The deadline of one delivery's handler, and whether it was called off before it ended.

    The consumer looks at all its watches a few times a second: a timer for each message would cost more
    than a quick handler does.
    """

    # Values of the class until they change: most watches never need more than two of them.
    revoked: str | None = None
    task: asyncio.Task[Any] | None = None
    """The task that runs the handler; the slot says so, since asking asyncio costs as much as parsing."""
    _running = False
    _started = _until = _again = 0.0
    _cancelled = 0

    def start(self, now: float, timeout: float) -> None:
        """The handler runs from now on, for `timeout` seconds at most; `now` is from `time.monotonic`."""
        self._running, self._started, self._until = True, now, now + timeout
        if self.revoked is not None:
            self._until = now

    def age(self, now: float) -> float:
        """Seconds that the handler has been running; 0 when it does not run."""
        return now - self._started if self._running else 0.0

    def overrun(self, now: float) -> bool:
        """Whether the handler has used up its time."""
        return now >= self._until > 0

    def check(self, now: float) -> None:
        """Stop the handler when its time is up."""
        if self._running and now >= self._until and now >= self._again and self.task is not None:
            self._again = now + AGAIN
            self._cancelled += 1
            self.task.cancel()

    def revoke(self, reason: str) -> None:
        """Stop the handler: its message is no longer ours, or the process ends."""
        if self.revoked is None:
            self.revoked = reason
            self._until = 0.0
            self.check(self._again)

    def end(self) -> bool:
        """The handler is over, one way or the other; whether we cancelled it.

        The cancellations were ours and are taken back, so that the slot goes on with the next message.
        """
        self._running = False
        if self.task is None or not self._cancelled:
            return False
        for _ in range(self._cancelled):
            self.task.uncancel()
        return True


async def enforce(watches: Callable[[], Iterable[Watch]]) -> None:
    """Stop handlers whose time is up, for ever."""
    while True:
        await asyncio.sleep(0.25)
        now = time.monotonic()
        for watch in list(watches()):
            watch.check(now)


def cancellation(error: BaseException) -> BaseException:
    """The cancellation at the root of `error`, or the error itself: clean-up code may raise over it."""
    link: BaseException | None = error
    found = error
    while link is not None:
        if isinstance(link, asyncio.CancelledError):
            found = link
        link = link.__cause__ or link.__context__
    return found

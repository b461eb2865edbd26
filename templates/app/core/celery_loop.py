"""One event loop for each process of a Celery worker, in a thread beside the tasks.

    @celery_app.task
    def publish_report(day: str) -> None:
        run(ReportService.publish, day)

A pooled connection belongs to the loop that opened it, so there is one loop for all tasks of a process, and
it starts on first use, after the fork. It is right for the pools prefork, threads and solo.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from celery import current_task, signals
from celery.exceptions import SoftTimeLimitExceeded

from app.core.celery_settings import celery_settings
from app.core.gate import close_connections, forget_idle_connections

P = ParamSpec("P")
T = TypeVar("T")

# Celery's own limits come first where the pool has them (prefork).
LATER = 1.0
AGAIN = 1.0  # a cancellation may get lost on its way, see `app.core.deadline.end`
CLOSING = 5.0
EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h
logger = logging.getLogger(__name__)


def run(call: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a coroutine function, called from a Celery task; it has the task's context variables.

    Celery's soft time limit, or any exception that comes up in the waiting task, cancels the coroutine and is
    raised once it has cleaned up. A loop that is still blocked at the hard limit ends the process.
    """
    soft, hard = limits()
    return loop_thread().run(call(*args, **kwargs), soft + LATER, hard + LATER)


def limits() -> tuple[float, float]:
    """The soft and the hard time limit of the task at work, in seconds."""
    settings = celery_settings()
    soft, hard = settings.celery_soft_time_limit_seconds, settings.celery_time_limit_seconds
    if not current_task:
        return soft, hard
    own_hard, own_soft = current_task.request.timelimit or (None, None)
    return own_soft or current_task.soft_time_limit or soft, own_hard or current_task.time_limit or hard


class LoopThread:
    """An event loop that runs in a thread until `stop`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="event loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], soft: float, hard: float) -> T:
        """The result of `work`, cancelled after `soft` seconds; after `hard` the process ends."""
        attempt = Attempt(self.loop, work)
        started = time.monotonic()
        try:
            attempt.start()
            attempt.wait(soft)
        except BaseException:
            attempt.end(started + hard)
            raise
        return attempt.result()  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Close the database connections, then end the loop and its thread."""
        try:
            self.run(close_connections(), CLOSING, 2 * CLOSING)
        except Exception as error:
            logger.warning("connections not closed: %r", error)
        self.end()

    def end(self) -> None:
        """End the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSING)
        if not self._thread.is_alive():
            self.loop.close()


class Attempt:
    """A coroutine on its way through the loop. The news of its end comes through a SimpleQueue: an exception
    that a signal handler raises in the waiting thread leaves it intact, which is not so for the condition
    inside a `concurrent.futures.Future`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> None:
        self._loop, self._work = loop, work
        self._context = contextvars.copy_context()
        self._news: SimpleQueue[object] = SimpleQueue()
        self._task: asyncio.Task[Any] | None = None
        self._called_off = False

    def start(self) -> None:
        """Begin as soon as the loop has time."""
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._called_off:
            self._work.close()
        else:
            self._task = self._loop.create_task(self._work, context=self._context)
            self._task.add_done_callback(self._news.put)

    def wait(self, soft: float) -> None:
        """Wait for its end. Raises SoftTimeLimitExceeded when that has not come in `soft` seconds."""
        try:
            self._news.get(timeout=soft)
        except Empty:
            raise SoftTimeLimitExceeded(soft) from None

    def result(self) -> Any:
        """What it returned, or raised."""
        if self._task is not None:
            return self._task.result()
        raise RuntimeError("the coroutine has not begun")

    def end(self, deadline: float) -> None:
        """Cancel it until it has ended. The process ends when it has not by `deadline`: a blocked loop does
        nothing for anybody, and the broker gives its tasks to others.
        """
        self._called_off = True
        while self._task is None or not self._task.done():
            self._loop.call_soon_threadsafe(self._cancel)
            try:
                self._news.get(timeout=AGAIN)
                return
            except Empty:
                if time.monotonic() > deadline:
                    logger.critical("the event loop is blocked: the process ends")
                    os._exit(EXIT_STUCK)

    def _cancel(self) -> None:
        if self._task is None:
            self._news.put(None)  # it never began, and will not
        else:
            self._task.cancel()


class Current:
    """The loop of this process, once there is one."""

    def __init__(self) -> None:
        self.thread: LoopThread | None = None
        self.lock = threading.Lock()


current = Current()


def loop_thread() -> LoopThread:
    """The loop of this process; the first task starts it."""
    with current.lock:
        if current.thread is None:
            thread = LoopThread()
            try:
                # The parent's pool came along with the fork: its sockets are not ours.
                thread.run(forget_idle_connections(), CLOSING, 2 * CLOSING)
            except BaseException:  # a time limit, too: the next task tries again
                thread.end()
                raise
            current.thread = thread
        return current.thread


def stop(**_: Any) -> None:
    """Close what a process of the worker has opened, at its end."""
    thread, current.thread = current.thread, None
    if thread is not None:
        thread.stop()


# A thread does not survive a fork, and a lock would stay as it was.
os.register_at_fork(after_in_child=current.__init__)  # type: ignore[misc]
signals.worker_process_shutdown.connect(stop, weak=False)  # prefork: a child ends
signals.worker_shutdown.connect(stop, weak=False)  # threads and solo: the worker ends

"""The event loop beside Celery's tasks: results, context, cancellation, and the end of the thread."""

import asyncio
import contextvars
import os
import signal
import threading
import time
from collections.abc import Iterator
from queue import Empty

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from app.core import celery_loop
from app.core.celery_loop import LoopThread, loop_thread, run

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No loop before, and none after."""
    yield
    celery_loop.stop()


async def where() -> tuple[int, str]:
    await asyncio.sleep(0)
    return threading.get_ident(), tenant.get()


async def fail() -> None:
    raise KeyError("a bug")


class Seen:
    """What a coroutine noticed."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cleaned = False

    async def wait(self) -> None:
        self.started.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)  # clean-up takes a moment, a rollback for example
            self.cleaned = True


def test_all_calls_share_one_loop_and_keep_the_context_of_their_caller() -> None:
    threads = set()
    for name in ("ada", "bob"):
        token = tenant.set(name)
        ident, seen = run(where)
        tenant.reset(token)
        threads.add(ident)
        assert seen == name
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_several_threads_at_once_start_one_loop() -> None:
    found: list[int] = []
    callers = [threading.Thread(target=lambda: found.append(run(where)[0])) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_an_error_reaches_the_caller_with_its_traceback() -> None:
    with pytest.raises(KeyError, match="a bug") as caught:
        run(fail)
    assert any(entry.name == "fail" for entry in caught.traceback)


def test_an_empty_queue_in_the_coroutine_is_no_time_limit() -> None:
    async def look() -> None:
        raise Empty

    with pytest.raises(Empty):
        run(look)


def test_a_soft_time_limit_cancels_the_coroutine_and_waits_for_its_clean_up() -> None:
    # Given a handler that raises in the waiting thread, as Celery's does
    def on_alarm(*_: object) -> None:
        raise SoftTimeLimitExceeded

    seen = Seen()
    former = signal.signal(signal.SIGALRM, on_alarm)
    waiting = threading.get_ident()

    def alarm() -> None:
        seen.started.wait(60)
        signal.pthread_kill(waiting, signal.SIGALRM)

    clock = threading.Thread(target=alarm)
    clock.start()
    try:
        with pytest.raises(SoftTimeLimitExceeded):
            run(seen.wait)
    finally:
        clock.join(60)
        signal.signal(signal.SIGALRM, former)
    # Then the coroutine has cleaned up, and the loop goes on
    assert seen.cleaned
    assert run(where)[1] == "nobody"


def test_without_signals_the_limit_holds_too() -> None:
    seen, thread = Seen(), LoopThread()
    with pytest.raises(SoftTimeLimitExceeded):
        thread.run(seen.wait(), soft=0.2, hard=60)
    assert seen.cleaned == seen.started.is_set()  # on a starved machine it has not begun
    thread.stop()


def test_a_blocked_loop_ends_the_process() -> None:
    async def block() -> None:
        time.sleep(60)  # that is the fault

    child = os.fork()
    if child == 0:  # the child must not come back into pytest
        try:
            LoopThread().run(block(), soft=0.1, hard=0.3)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == celery_loop.EXIT_STUCK


def test_a_child_gets_a_loop_of_its_own() -> None:
    parent = loop_thread()
    child = os.fork()
    if child == 0:
        try:
            own = loop_thread() is not parent and run(where)[1] == "nobody"
        finally:
            os._exit(0 if own else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert loop_thread() is parent


def test_a_loop_that_cannot_begin_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail_at_first() -> None:
        monkeypatch.undo()
        raise ConnectionError("the database is away")

    monkeypatch.setattr(celery_loop, "forget_idle_connections", fail_at_first)
    with pytest.raises(ConnectionError):
        run(where)
    assert not any(thread.name == "event loop" for thread in threading.enumerate())
    assert run(where)[1] == "nobody"


def test_stop_ends_the_thread_and_the_next_call_starts_another() -> None:
    run(where)
    celery_loop.stop()
    assert not any(thread.name == "event loop" for thread in threading.enumerate())
    assert run(where)[1] == "nobody"

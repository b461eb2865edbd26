"""Deadlines against work that does not want to end."""

import asyncio
import time

import pytest

from app.core import deadline
from app.core.deadline import Watch, cancellation, end, together, within


async def stubborn(refusals: int) -> str:
    """Swallows a number of cancellations, as a rollback on a silent connection does."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if refusals == 0:
                raise
            refusals -= 1


async def test_work_in_time() -> None:
    async def quick() -> int:
        return 7

    assert await within(5, quick()) == 7


async def test_work_that_swallows_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadline, "AGAIN", 0.05)
    with pytest.raises(TimeoutError):
        await within(0.05, stubborn(3))


async def test_tasks_that_swallow_a_cancellation_end_all_the_same() -> None:
    tasks = [asyncio.ensure_future(stubborn(refusals)) for refusals in (0, 1)]
    await asyncio.sleep(0)
    await end(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_loop_that_fails_ends_the_others_even_if_they_swallow_a_cancellation() -> None:
    async def wrong() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    others = [asyncio.ensure_future(stubborn(1)) for _ in range(2)]
    with pytest.raises(KeyError):
        await together(asyncio.Event().wait(), [*others, wrong()])  # type: ignore[arg-type,list-item]
    assert all(task.cancelled() for task in others)


async def test_loops_end_with_what_they_run_beside() -> None:
    async def brief() -> None:
        await asyncio.sleep(0)

    other = asyncio.ensure_future(stubborn(1))
    await together(brief(), [other, brief()])  # type: ignore[list-item]
    assert other.cancelled()


async def test_an_error_of_the_work_is_its_own() -> None:
    async def wrong() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await within(5, wrong())


async def test_being_cancelled_cancels_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.ensure_future(within(60, work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_watch_takes_its_cancellations_back() -> None:
    # Given a slot that runs one handler after the other
    watch = Watch()
    results: list[object] = []

    async def slot() -> None:
        watch.task = asyncio.current_task()
        watch.start(time.monotonic(), 100)
        try:
            await stubborn(1)
        except asyncio.CancelledError:
            results.append(watch.end())
        await asyncio.sleep(0)  # the next handler is not cancelled
        results.append("next")

    task = asyncio.ensure_future(slot())
    await asyncio.sleep(0)
    watch.revoke("no longer ours")
    await asyncio.sleep(0)
    watch.check(time.monotonic() + 1000)
    await task
    assert results == [True, "next"]
    assert task.cancelling() == 0


async def test_a_watch_revoked_before_its_start() -> None:
    watch = Watch()
    watch.revoke("stopping")

    async def slot() -> bool:
        watch.task = asyncio.current_task()
        watch.start(time.monotonic(), 100)
        watch.check(time.monotonic())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return watch.end()
        return False

    assert await slot()


def test_the_cancellation_under_an_error_of_the_clean_up() -> None:
    inner = asyncio.CancelledError()
    outer = KeyError()
    outer.__context__ = inner
    assert cancellation(outer) is inner
    assert cancellation(KeyError("x")).args == ("x",)

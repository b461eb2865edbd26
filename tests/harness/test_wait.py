"""Waiting ends as soon as the condition holds, and says what it saw when it never does."""

import time
from pathlib import Path

import pytest

from support import wait
from support.wait import DeadlinePassed, NoLongerTrue, eventually, eventually_sync, stays


async def test_it_returns_what_the_condition_returned() -> None:
    answers = iter([None, 0, "ready"])
    assert await eventually(lambda: next(answers), 5) == "ready"


async def test_the_condition_may_be_async() -> None:
    answers = iter([False, True])

    async def condition() -> bool:
        return next(answers)

    assert await eventually(condition, 5) is True


def test_it_works_without_an_event_loop() -> None:
    answers = iter([[], [1]])
    assert eventually_sync(lambda: next(answers), 5) == [1]


async def test_a_passed_deadline_says_what_was_awaited_and_seen() -> None:
    with pytest.raises(DeadlinePassed, match=r"not within 0\.05 s: three rows; last seen: \[\]"):
        await eventually(list, 0.05, "three rows")


def test_the_deadline_holds_without_an_event_loop_too() -> None:
    with pytest.raises(DeadlinePassed, match="a row"):
        eventually_sync(lambda: None, 0.05, "a row")


async def test_named_exceptions_mean_not_yet_and_others_pass() -> None:
    answers = iter([ConnectionError("down"), None])

    def condition() -> bool:
        if error := next(answers):
            raise error
        return True

    assert await eventually(condition, 5, ignore=(ConnectionError,))
    with pytest.raises(ZeroDivisionError):
        await eventually(lambda: 1 / 0, 5, ignore=(ConnectionError,))


async def test_the_last_ignored_exception_is_in_the_message() -> None:
    def condition() -> bool:
        raise ConnectionError("nobody there")

    with pytest.raises(DeadlinePassed, match="nobody there"):
        await eventually(condition, 0.05, ignore=(ConnectionError,))


async def test_stays_sees_the_one_moment_at_which_it_is_false() -> None:
    answers = iter([True, True, False])
    with pytest.raises(NoLongerTrue, match="a single consumer"):
        await stays(lambda: next(answers), 5, "a single consumer")


async def test_stays_ends_when_the_time_is_over() -> None:
    await stays(lambda: True, 0.05)


async def test_time_without_a_processor_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a machine on which processes stand in line all the time
    pressure = tmp_path / "cpu"
    monkeypatch.setattr(wait, "PRESSURE", pressure)

    def starve() -> None:
        pressure.write_text(f"some avg10=99.0 total={time.monotonic() * 1e6:.0f}\nfull avg10=0 total=0\n")

    def later() -> bool:
        starve()
        return time.monotonic() > started + 0.3

    starve()
    # Then a condition has up to twice its time, and no more
    started = time.monotonic()
    assert await eventually(later, 0.2)
    started = time.monotonic()
    with pytest.raises(DeadlinePassed):
        await eventually(starve, 0.2)
    assert time.monotonic() >= started + 0.4

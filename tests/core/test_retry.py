"""Pauses between attempts, and the Retry-After header."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.retry import RetryPolicy, parse_retry_after


@given(st.integers(1, 1000), st.floats(0, 1), st.floats(0.01, 100), st.floats(1, 1000))
def test_the_pause_is_within_its_bound(attempt: int, drawn: float, base: float, factor: float) -> None:
    policy = RetryPolicy(base=base, cap=base * factor, draw=lambda: drawn)
    assert 0 <= policy.pause(attempt) <= min(base * factor, base * 2.0 ** min(attempt - 1, 60))


def test_the_bound_doubles_up_to_the_cap() -> None:
    policy = RetryPolicy(base=1, cap=10, draw=lambda: 1.0)
    assert [policy.pause(n) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(st.floats(0, 1), st.floats(0, 10_000), st.integers(1, 20))
def test_never_before_retry_after(drawn: float, after: float, attempt: int) -> None:
    assert RetryPolicy(draw=lambda: drawn).pause(attempt, after) >= after


def test_the_last_attempt() -> None:
    policy = RetryPolicy(attempts=3)
    assert [policy.exhausted(n) for n in (1, 2, 3, 4)] == [False, False, True, True]


NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert parse_retry_after({"retry-after": value}, NOW) == seconds


def test_no_retry_after() -> None:
    assert parse_retry_after({}, NOW) is None

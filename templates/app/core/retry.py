"""When to try again: exponential backoff with full jitter, bounded, and never before `Retry-After`.

Full jitter draws the pause from 0 to the bound, so that messages which failed together do not come back
together (AWS Architecture Blog, "Exponential Backoff And Jitter"). `Retry-After` is RFC 9110, 10.2.3.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Pauses between attempts, in seconds.

    The pause after attempt n is drawn from 0 to `base * 2 ** (n - 1)`, at most `cap`. `attempts` counts the
    first delivery too. `draw` returns a number from 0 to 1; tests pass their own.
    """

    base: float = 5.0
    cap: float = 300.0
    attempts: int = 8
    draw: Callable[[], float] = random.random

    def pause(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after failed attempt number `attempt` (1 is the first)."""
        bound = min(self.cap, self.base * math.pow(2, min(attempt - 1, 60)))
        jittered = self.draw() * bound
        if retry_after is None:
            return jittered
        # The server named the earliest moment; the jitter on top keeps its clients from coming all at once.
        return retry_after + min(jittered, self.base)

    def exhausted(self, attempt: int) -> bool:
        """Whether attempt number `attempt` was the last one allowed."""
        return attempt >= self.attempts


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait as a `Retry-After` header asks (seconds or HTTP date); None without a usable one."""
    value = headers.get("retry-after") or headers.get("Retry-After")
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:  # RFC 9110 allows "-0000"; it still means UTC
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())

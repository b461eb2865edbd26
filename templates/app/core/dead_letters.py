"""Dead letters, whatever carries them: what one is, which ones are meant, and how they look in groups.

An adapter (`stream_dead_letters`, `rabbit_dead_letters`) gets them and settles them.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol

# In a reason, what differs from one letter to the next: ids, long words with digits in them, and numbers.
# The status of an HTTP answer ("503 Service Unavailable") is what tells one cause from another, so it stays.
VARIABLE = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|\b(?=\w*\d\w*\d)\w{8,}\b"
    r"|(?<!HTTP )\b(?![45]\d\d [A-Z])\d+\b"
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that was given up. `body` is None when there was nothing that could be one.

    `headers` and `properties` came with it and go with it; `origin` is the queue or stream that it was in.
    `handle` is the adapter's own.
    """

    id: str
    body: bytes | None
    reason: str
    deliveries: int = 0
    at: datetime | None = None
    origin: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    handle: Any = field(default=None, compare=False)

    @property
    def event(self) -> dict[str, str]:
        """Its attributes `id`, `source` and `type` of CloudEvents, as far as they can be read."""
        try:
            found = json.loads(self.body or b"")
        except (ValueError, RecursionError):
            return {}
        names = ("id", "source", "type")
        named = {name: found.get(name) for name in names} if isinstance(found, dict) else {}
        return {name: value for name, value in named.items() if isinstance(value, str)}


class DeadLetters(Protocol):
    """The dead letters of one consumer, in the order in which they came."""

    def pages(self, at_most: int | None = None) -> AsyncGenerator[list[Letter], None]:
        """Those that are there now, oldest first, `at_most` so many: pages that fit into memory. What is to
        be settled of a page has to be before the next one. Those that are not settled stay, in their order,
        once the generator is closed.

        Raises BrokerDownError, as the others do.
        """

    async def replay(self, letters: Sequence[Letter]) -> list[str | None]:
        """Send `letters` of the current page to their consumer, as on their first day; for each None, or why
        not. A letter is removed after its copy is confirmed, so a crash leaves two and never none.
        """

    async def drop(self, letters: Sequence[Letter]) -> None:
        """Remove `letters` of the current page for good."""

    async def add(self, letters: Sequence[Letter]) -> list[str | None]:
        """Add `letters`, from wherever they are; for each None, or why not."""

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True)
class Wanted:
    """Which letters are meant: those that fit all that is given. `type` may be a pattern: `shop.order.*`.

    `ids` are of letters or of their messages (CloudEvents). A letter without a time has none that fits.
    """

    ids: frozenset[str] = frozenset()
    reason: str = ""
    type: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is given."""
        return self == Wanted()

    def fits(self, letter: Letter) -> bool:
        """Whether `letter` is meant."""
        if self.reason.casefold() not in letter.reason.casefold():
            return False
        if self.since is not None and (letter.at is None or letter.at < self.since):
            return False
        if self.until is not None and (letter.at is None or letter.at >= self.until):
            return False
        if self.ids and not self.named(letter):
            return False
        return not self.type or fnmatchcase(letter.event.get("type", ""), self.type)

    def named(self, letter: Letter) -> frozenset[str]:
        """Those of `ids` that are `letter`'s."""
        return self.ids & {letter.id, letter.event.get("id", letter.id)}


async def chosen(
    letters: DeadLetters, wanted: Wanted, at_most: int | None = None
) -> AsyncGenerator[list[Letter], None]:
    """The letters that are `wanted`, page by page; `at_most` so many."""
    left = at_most
    async with aclosing(letters.pages(at_most if wanted.everything else None)) as pages:
        async for page in pages:
            fitting = [letter for letter in page if wanted.fits(letter)][:left]
            if fitting:
                yield fitting
            left = None if left is None else left - len(fitting)
            if left == 0:
                return


async def each(
    letters: DeadLetters, wanted: Wanted, at_most: int | None = None
) -> AsyncGenerator[Letter, None]:
    """The same one by one, to be looked at."""
    async with aclosing(chosen(letters, wanted, at_most)) as pages:
        async for page in pages:
            for letter in page:
                yield letter


class Pace:
    """At most `rate` letters a second."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._next = clock()

    async def portions(self, letters: Sequence[Letter]) -> AsyncGenerator[Sequence[Letter], None]:
        """`letters` in portions for a tenth of a second, each when its time has come."""
        size = max(1, int(self._rate / 10))
        for start in range(0, len(letters), size):
            portion = letters[start : start + size]
            await self._sleep(max(0.0, self._next - self._clock()))
            self._next = max(self._clock(), self._next) + len(portion) / self._rate
            yield portion


@dataclass(slots=True)
class Group:
    """Letters that were given up for the same reason, ids and numbers in it aside."""

    type: str
    reason: str
    count: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    example: str = ""

    def add(self, letter: Letter) -> None:
        """Count `letter` in."""
        self.count += 1
        self.example = self.example or letter.id
        if letter.at is not None:
            self.oldest = min(letter.at, self.oldest or letter.at)
            self.newest = max(letter.at, self.newest or letter.at)


class Groups:
    """Letters by type and reason."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, letter: Letter) -> None:
        """Count `letter` in its group."""
        key = letter.event.get("type", ""), alike(letter.reason)
        self._groups.setdefault(key, Group(*key)).add(letter)

    def largest_first(self) -> list[Group]:
        """All groups."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.type, group.reason))


def alike(reason: str) -> str:
    """The reason without what differs from one letter to the next."""
    return VARIABLE.sub("#", reason)

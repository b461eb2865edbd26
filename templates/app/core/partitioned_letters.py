"""The dead letters of all partitions of a consumer as if they were in one place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

from app.core.dead_letters import DeadLetters, Letter


class PartitionedLetters:
    """See DeadLetters: one partition after the other. `parts` are the dead letters of each, with the names
    that a letter of it may have as its origin, by which an imported one finds its partition.
    """

    def __init__(self, parts: Sequence[tuple[Collection[str], DeadLetters]]) -> None:
        self._parts = parts
        self._current = parts[0][1]

    async def pages(self, at_most: int | None = None) -> AsyncGenerator[list[Letter], None]:
        """See DeadLetters."""
        left = at_most
        for _, part in self._parts:
            if left == 0:
                return
            self._current = part
            async with aclosing(part.pages(left)) as pages:
                async for page in pages:
                    left = None if left is None else left - len(page)
                    yield page

    async def replay(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters. What is replayed stands behind what was sent since."""
        return await self._current.replay(letters)

    async def drop(self, letters: Sequence[Letter]) -> None:
        """See DeadLetters."""
        await self._current.drop(letters)

    async def add(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters."""
        return [await self._add(letter) for letter in letters]

    async def _add(self, letter: Letter) -> str | None:
        for origins, part in self._parts:
            if letter.origin in origins:
                (refusal,) = await part.add([letter])
                return refusal
        return f"no partition is named {letter.origin!r}"

    async def close(self) -> None:
        """See DeadLetters."""
        for _, part in self._parts:
            await part.close()

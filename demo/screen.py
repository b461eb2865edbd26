"""The terminal: lines, a line that waits, and a table that is drawn over itself. Plain lines into a pipe."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

T = TypeVar("T")

BAR = 24
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
CLEAR_LINE, CLEAR_BELOW = "\r\x1b[K", "\x1b[J"
BOLD, DIM, GREEN, RED, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"


class Screen:
    """Writes to stdout. `live` says whether that is a terminal on which lines can be drawn over."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = self.live and "NO_COLOR" not in os.environ
        self._drawn = 0
        if self.live:
            self._write(HIDE_CURSOR)

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, where there are colours."""
        return f"{colour}{text}{PLAIN}" if self._colours else text

    def say(self, *lines: str) -> None:
        """Write lines that stay, below what was drawn last."""
        self._drawn = 0
        self._write("".join(f"{line}\n" for line in lines))

    async def during(self, part: float, what: str, work: Awaitable[T]) -> T:
        """Wait for `work` and show what is awaited; `part` of all preparations lie behind."""
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        try:
            while not (await asyncio.wait([task], timeout=0.1))[0]:
                if self.live:
                    self._write(f"{CLEAR_LINE}{bar(part)}  {what} ... {time.monotonic() - began:.1f} s")
        finally:
            task.cancel()
            if self.live:
                self._write(CLEAR_LINE)
        return task.result()

    def draw(self, lines: Sequence[str], *, last: bool = False) -> None:
        """Draw a table over the last one; only the `last` may be longer than the screen, and scroll."""
        width, height = shutil.get_terminal_size()
        visible = [shorten(line, width - 1) for line in (lines if last else lines[: height - 1])]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._write(up + "".join(f"{CLEAR_LINE}{line}\n" for line in visible) + CLEAR_BELOW)
        self._drawn = len(visible)

    def restore(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self._write(SHOW_CURSOR)
            self.live = False

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def bar(part: float) -> str:
    """A bar that is filled up to `part` of 1."""
    full = round(BAR * max(0.0, min(1.0, part)))
    return "[" + "#" * full + "." * (BAR - full) + "]"


def shorten(line: str, width: int) -> str:
    """At most `width` visible characters: a line that wraps would spoil the drawing over it."""
    shown, result, inside = 0, [], False
    for character in line:
        inside = inside or character == "\x1b"
        if inside or shown < width:
            result.append(character)
            shown += not inside
        inside = inside and character != "m"
    return "".join(result)

"""Records a real run of the demo and draws it as an SVG that plays in a browser and loads nothing.

    python -m tools.picture FILE                    runs the demo in a terminal of its own, about a minute
    python -m tools.picture FILE -- COMMAND ...     records another command

Exit codes: that of the command; nothing is written unless it is 0.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path

WIDTH, HEIGHT = 104, 36
FRAMES = 9
FRAME_SECONDS, LAST_SECONDS = 1.2, 6.0
CELL, LINE, MARGIN, SIZE = 7.8, 17, 14, 13
DEMO = (sys.executable, "-m", "demo.run")
# Colours of ECMA-48 (`ESC [ … m`) that the demo uses, by their meaning; readable on the dark ground.
STYLES = {"1": "b", "2": "d", "31": "r", "32": "g"}
SHEET = (
    "text{{font:{size}px ui-monospace,Menlo,Consolas,monospace;white-space:pre;fill:#d8dee9}}"
    ".b{{font-weight:bold;fill:#fff}}.d{{fill:#7b8794}}.r{{fill:#ff7b72}}.g{{fill:#7ee787}}"
    ".f{{opacity:0;animation:{total:g}s infinite}}"
)
TOKEN = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|(\r)|(\n)|([^\x00-\x1f])")

Cell = tuple[str, str]
BLANK: Cell = (" ", "")


@dataclass
class Terminal:
    """As much of a terminal as the demo uses: lines, a carriage return, up, clearing, and colours."""

    rows: list[list[Cell]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    style: str = ""

    def feed(self, text: str) -> None:
        """Take what a program has written; unknown sequences are skipped."""
        for argument, letter, back, down, character in TOKEN.findall(text):
            if letter:
                self._obey(argument, letter)
            elif back:
                self.column = 0
            elif down:
                self._down()
            elif character:
                self._put(character)

    def _obey(self, argument: str, letter: str) -> None:
        match letter:
            case "m":
                self.style = STYLES.get(argument, "")
            case "K":
                del self.rows[self.row][self.column :]
            case "J":
                del self.rows[self.row][self.column :]
                del self.rows[self.row + 1 :]
            case "F":
                self.row, self.column = max(0, self.row - int(argument or 1)), 0

    def _down(self) -> None:
        # A pseudo-terminal turns each line feed into CR LF, so the column is 0 already.
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])
        if len(self.rows) > HEIGHT:
            self.row -= len(self.rows) - HEIGHT
            del self.rows[:-HEIGHT]

    def _put(self, character: str) -> None:
        if self.column == WIDTH:
            self._down()
            self.column = 0
        line = self.rows[self.row]
        line.extend([BLANK] * (self.column - len(line)))
        line[self.column : self.column + 1] = [(character, self.style)]
        self.column += 1

    def screen(self) -> list[list[Cell]]:
        """A copy of what is to be seen."""
        return [list(line) for line in self.rows]


def record(command: Sequence[str]) -> tuple[int, list[str]]:
    """Run in a pseudo-terminal; the exit code, and what was written, piece by piece."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(WIDTH), "LINES": str(HEIGHT)}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environment) as process:
        os.close(theirs)
        written = list(pieces(ours))
    os.close(ours)
    return process.returncode, written


def pieces(terminal: int) -> Iterator[str]:
    """What comes out of a terminal until its program ends. The demo writes ASCII only."""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux answers EIO when the program has ended
            return
        if not data:
            return
        yield data.decode("ascii", errors="replace")


def frames(written: Sequence[str]) -> list[list[list[Cell]]]:
    """Screens at equal distances of what was written, the last one included. In time, most would show the
    preparations, in which little happens.
    """
    screens: list[list[list[Cell]]] = []
    terminal, so_far = Terminal(), 0
    total = sum(map(len, written))
    for text in written:
        if so_far * FRAMES >= total * (len(screens) + 1):
            screens.append(terminal.screen())
        terminal.feed(text)
        so_far += len(text)
    return [*screens, terminal.screen()]


def draw(screens: Sequence[list[list[Cell]]]) -> str:
    """The SVG. Frames follow each other by CSS; who wants no motion sees the last."""
    total = FRAME_SECONDS * (len(screens) - 1) + LAST_SECONDS
    width, height = round(WIDTH * CELL + 2 * MARGIN), HEIGHT * LINE + 2 * MARGIN
    sheet = [SHEET.format(size=SIZE, total=total)]
    groups = []
    for number, screen in enumerate(screens):
        last = number == len(screens) - 1
        start = 100 * number * FRAME_SECONDS / total
        stop = 100.0 if last else 100 * (number + 1) * FRAME_SECONDS / total
        shown = f"{start:.2f}%,{stop:.2f}%{{opacity:1}}"
        around = ("" if not number else f"0%,{start - 0.01:.2f}%{{opacity:0}}") + (
            "" if last else f"{stop + 0.01:.2f}%,100%{{opacity:0}}"
        )
        sheet.append(f"@keyframes f{number}{{{shown}{around}}}#f{number}{{animation-name:f{number}}}")
        groups.append(f'<g class="f" id="f{number}">{"".join(lines(screen))}</g>')
    # The last frame is what is seen where nothing moves.
    sheet.append(f"#f{len(screens) - 1}{{opacity:1}}@media(prefers-reduced-motion){{.f{{animation:none}}}}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>make demo</title><style>{''.join(sheet)}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#11151c"/>\n'
        + "\n".join(groups)
        + "\n</svg>\n"
    )


def lines(screen: list[list[Cell]]) -> Iterator[str]:
    """A text element for each line that has something on it."""
    for number, line in enumerate(screen):
        parts = []
        for style, cells in groupby(line, key=lambda cell: cell[1]):
            text = escape("".join(character for character, _ in cells), quote=False)
            parts.append(f'<tspan class="{style}">{text}</tspan>' if style else text)
        content = "".join(parts).rstrip()
        if content:
            yield f'<text x="{MARGIN}" y="{MARGIN + (number + 1) * LINE - 4}">{content}</text>'


def main(arguments: Sequence[str]) -> int:
    """Record and draw; the exit code."""
    target, command = Path(arguments[0]), list(arguments[2:]) or list(DEMO)
    code, written = record(command)
    if code == 0:
        target.write_text(draw(frames(written)), encoding="utf-8")
        print(f"{target}: {target.stat().st_size} bytes")
    else:
        sys.stderr.write("".join(written)[-2000:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

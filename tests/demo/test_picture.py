"""The picture of the demo: drawn from what a program writes, and the one that is there."""

import shlex
import sys
import xml.etree.ElementTree as ET  # a file of this repository
from pathlib import Path

from docs.documents import ROOT
from tools import picture

FEW_BYTES = 120_000
PICTURE = ROOT / "demo" / "picture.svg"


def texts(svg: str) -> list[list[str]]:
    """The lines of each frame."""
    groups = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")  # noqa: S314
    return [["".join(line.itertext()) for line in group] for group in groups]


def test_a_table_that_is_drawn_over_itself() -> None:
    terminal = picture.Terminal()

    terminal.feed("head\r\none\r\ntwo\r\n\x1b[2F\r\x1b[K\x1b[32mgreen\x1b[0m!\r\n\x1b[J")

    green = [(letter, "g") for letter in "green"]
    assert terminal.screen() == [[(letter, "") for letter in "head"], [*green, ("!", "")], []]


def test_a_screen_that_scrolls() -> None:
    terminal = picture.Terminal()

    terminal.feed("".join(f"{number}\r\n" for number in range(100)))

    assert len(terminal.screen()) == picture.HEIGHT
    assert "".join(character for character, _ in terminal.screen()[-2]) == "99"


def test_a_line_that_is_too_long_goes_on_below() -> None:
    terminal = picture.Terminal()

    terminal.feed("x" * (picture.WIDTH + 1))

    assert [len(line) for line in terminal.screen()] == [picture.WIDTH, 1]


def test_a_program_is_recorded(tmp_path: Path) -> None:
    target = tmp_path / "picture.svg"
    code = "import sys; print('a < b', sys.stdout.isatty()); print('\\x1b[31mred\\x1b[0m')"

    assert picture.main([str(target), "--", sys.executable, "-c", code]) == 0

    assert texts(target.read_text())[-1] == ["a < b True", "red"]


def test_a_program_that_fails_leaves_no_picture(tmp_path: Path) -> None:
    target = tmp_path / "picture.svg"

    assert picture.main([str(target), "--", *shlex.split("sh -c 'exit 3'")]) == 3
    assert not target.exists()


def test_the_picture_is_that_of_a_run_that_lost_nothing() -> None:
    svg = PICTURE.read_text()
    last = texts(svg)[-1]

    assert len(svg) < FEW_BYTES
    assert any("nothing was lost and nothing was done twice" in line for line in last)
    assert "make demo" in svg

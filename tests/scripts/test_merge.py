"""Merging line by line: properties over many random texts, and the cases that people meet."""

from __future__ import annotations

from random import Random

import pytest

from workerkit.merge import has_markers, merge
from workerkit.said import said

WORDS = ["a", "b", "c", "d", "", "    return"]


def some_text(random: Random) -> str:
    """A few lines of few words, so that many are the same; some end without an end of line."""
    lines = [random.choice(WORDS) for _ in range(random.randrange(12))]
    return "\n".join(lines) + random.choice(["\n", ""]) if lines else ""


def edited(random: Random, text: str, mark: str) -> tuple[str, list[str]]:
    """The text after a few edits, and the lines that they added, each of which is like no other."""
    lines, added = text.splitlines(), []
    for number in range(random.randrange(1, 4)):
        at = random.randrange(len(lines) + 1)
        new = f"{mark}{number}"
        lines[at : at + random.randrange(3)] = [new]
        added.append(new)
    return "\n".join(lines) + "\n", [line for line in added if line in lines]


@pytest.mark.parametrize("seed", range(6))
def test_properties(seed: int) -> None:
    random = Random(seed)
    for _ in range(100):
        check_merge(random)


def check_merge(random: Random) -> None:
    """One random text, edited twice."""
    base = some_text(random)
    (left, added_left), (right, added_right) = (edited(random, base, mark) for mark in ("L", "R"))

    # Who changed nothing takes what the other one has, and what both did is there once
    assert merge(base, left, base, "x").text == left
    assert merge(base, base, right, "x").text == right
    assert merge(base, left, left, "x").text == left
    assert merge(None, left, left, "x").text == left
    # Nothing is lost, with a base or without, and nothing is there twice
    for first in (base, None):
        found = merge(first, left, right, "1.0")
        lines = found.text.splitlines()
        assert [line for line in lines if line in added_left] == added_sorted(left, added_left)
        assert [line for line in lines if line in added_right] == added_sorted(right, added_right)
        assert found.conflicts == lines.count("<<<<<<< yours") == lines.count(">>>>>>> template 1.0")
        assert has_markers(found.text) is bool(found.conflicts)
        # And both texts can be had back by choosing
        if first is None:
            assert chosen(found.text, "yours").splitlines() == left.splitlines()
            assert chosen(found.text, "template").splitlines() == right.splitlines()


def added_sorted(text: str, added: list[str]) -> list[str]:
    """The added lines in the order of the text."""
    return [line for line in text.splitlines() if line in added]


def chosen(text: str, side: str) -> str:
    """The text with one side of each conflict."""
    kept, at = [], ""
    for line in text.splitlines(keepends=True):
        if line.startswith("<<<<<<< "):
            at = "yours"
        elif line == "=======\n":
            at = "template"
        elif line.startswith(">>>>>>> "):
            at = ""
        elif at in ("", side):
            kept.append(line)
    return "".join(kept)


def test_changes_apart_from_each_other_are_both_taken() -> None:
    base = "one\ntwo\nthree\nfour\nfive\n"

    found = merge(base, base.replace("one", "ours"), base.replace("five", "theirs"), "2.0")

    assert (found.text, found.conflicts) == ("ours\ntwo\nthree\nfour\ntheirs\n", 0)


def test_the_same_lines_changed_by_both_stand_between_markers() -> None:
    base = "one\ntwo\nthree\n"

    found = merge(base, "one\nours\nthree\n", "one\ntheirs\nthree\n", "2.0")

    assert found.conflicts == 1
    assert found.text == "one\n<<<<<<< yours\nours\n=======\ntheirs\n>>>>>>> template 2.0\nthree\n"


def test_what_a_file_says_is_not_its_layout() -> None:
    text = "x = f(a, 'b')  # why\n\n\ndef g(q: int) -> str:\n    return f'{q}'\n"
    laid_out = 'x = f(\n    a,\n    "b",\n)  # why\n\ndef g(\n    q: int,\n) -> str:\n    return f"{q}"\n'

    assert said(laid_out) == said(text)
    # The same with each version of Python: this is what all of them found.
    assert said(text) == "6ac1eacf5711e24db23a6c627743ba38"
    for other in (("# why", "# because"), ("a, 'b'", "a, 'c'"), ("q: int", "q: float"), ("return", "yield")):
        assert said(text.replace(*other)) != said(text), other
    assert said("not ( python") != said("not (python")

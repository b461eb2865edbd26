"""Merging line by line: what the project's people changed and what the templates changed, both kept.

Where both changed the same lines, or lines next to each other, the two stand one after the other between
markers, as Git has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

YOURS = "<<<<<<< yours"
BETWEEN = "======="
TEMPLATE = ">>>>>>> template"


@dataclass(frozen=True)
class Merged:
    """The text, and how many places are between markers."""

    text: str
    conflicts: int


def merge(base: str | None, yours: str, new: str, label: str) -> Merged:
    """`yours` with what is different in `new` since `base`. Without a base no line tells who changed it, so
    that each difference is a conflict. `label` names the new text at the end of a conflict.
    """
    mine, theirs = yours.splitlines(keepends=True), new.splitlines(keepends=True)
    first = base.splitlines(keepends=True) if base is not None else None
    lines: list[str] = []
    conflicts = 0
    for old, left, right in regions(first, mine, theirs):
        if right in (left, old):
            lines += left
        elif left == old:
            lines += right
        else:
            conflicts += 1
            lines += marked(left, right, label)
    return Merged("".join(lines), conflicts)


def has_markers(text: str) -> bool:
    """Whether somebody still has to choose in a text."""
    lines = {line.rstrip() for line in text.splitlines() if line.startswith(("<<<<<<<", ">>>>>>>"))}
    return YOURS in lines and any(line.startswith(TEMPLATE) for line in lines)


def marked(left: Sequence[str], right: Sequence[str], label: str) -> list[str]:
    """Both sides of a conflict; a last line without an end gets one, or the marker would stand in it."""
    return [f"{YOURS}\n", *ended(left), f"{BETWEEN}\n", *ended(right), f"{TEMPLATE} {label}\n"]


def ended(lines: Sequence[str]) -> Iterator[str]:
    """The lines, each with an end."""
    return (line if line.endswith("\n") else f"{line}\n" for line in lines)


def regions(
    base: Sequence[str] | None, left: Sequence[str], right: Sequence[str]
) -> Iterator[tuple[Sequence[str] | None, Sequence[str], Sequence[str]]]:
    """The texts cut into pieces that belong together: those that are the same in all, and those between."""
    at = (0, 0, 0)
    for start, size in anchors(base, left, right):
        if at != start:
            yield piece(base, left, right, at, start)
        end = (start[0] + size, start[1] + size, start[2] + size)
        yield piece(base, left, right, start, end)
        at = end


def piece(
    base: Sequence[str] | None,
    left: Sequence[str],
    right: Sequence[str],
    start: tuple[int, int, int],
    end: tuple[int, int, int],
) -> tuple[Sequence[str] | None, Sequence[str], Sequence[str]]:
    """The same part of each text."""
    old = base[start[0] : end[0]] if base is not None else None
    return old, left[start[1] : end[1]], right[start[2] : end[2]]


def anchors(
    base: Sequence[str] | None, left: Sequence[str], right: Sequence[str]
) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Where runs of lines begin that are in all texts, with their lengths; the last one is the empty end."""
    if base is None:
        yield from (((a, a, b), size) for a, b, size in blocks(left, right))
        return
    for (a, left_at, left_size), (b, right_at, right_size) in overlapping(
        blocks(base, left), blocks(base, right)
    ):
        start, end = max(a, b), min(a + left_size, b + right_size)
        if start < end:
            yield (start, left_at + start - a, right_at + start - b), end - start
    yield (len(base), len(left), len(right)), 0


def overlapping(
    ones: list[tuple[int, int, int]], others: list[tuple[int, int, int]]
) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Pairs of runs that may share lines of the base, in its order."""
    i = j = 0
    while i < len(ones) and j < len(others):
        yield ones[i], others[j]
        if ones[i][0] + ones[i][2] < others[j][0] + others[j][2]:
            i += 1
        else:
            j += 1


def blocks(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of lines that two texts share: where they begin in each, and how long they are."""
    # Without autojunk=False lines that are frequent in long files would match nothing.
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return [(match.a, match.b, match.size) for match in matcher.get_matching_blocks()]

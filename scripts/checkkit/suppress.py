"""Findings that the project accepts: by a comment with a reason, or by a baseline."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from checkkit.errors import UsageError
from checkkit.rule import Found

COMMENT = re.compile(r"#\s*worker:\s*ignore(?:\[([\w ,]*)\])?[ \t]*(.*)")


def comments(text: str) -> dict[int, tuple[frozenset[str], str]]:
    """By line: the rules that a comment there accepts, and its reason."""
    found = {}
    if "worker:" in text:
        for number, line in enumerate(text.split("\n"), 1):
            if match := COMMENT.search(line):
                ids = frozenset(one.strip() for one in (match[1] or "").split(",") if one.strip())
                found[number] = (ids, match[2].strip(" -:"))
    return found


def without_accepted(found: Iterable[Found], path: str, text: str) -> Iterator[Found]:
    """The findings of a file that no comment accepts, and one for each comment without rule or reason."""
    accepted = comments(text)
    lines = text.split("\n")
    for one in found:
        if not any(covers(accepted, lines, number, one) for number in (one.line, one.line - 1)):
            yield one
    for number, (ids, reason) in accepted.items():
        if not ids or not reason:
            lacking = "reason" if ids else "rule in brackets"
            message = f"this comment has no {lacking}, so it accepts nothing"
            yield Found(path, number, 1, "CHK02", message, lines[number - 1].strip())


def covers(
    accepted: dict[int, tuple[frozenset[str], str]], lines: list[str], number: int, found: Found
) -> bool:
    """Whether the comment on a line, which stands alone if it is the line above, accepts a finding."""
    ids, reason = accepted.get(number, (frozenset(), ""))
    alone = number == found.line or lines[number - 1].lstrip().startswith("#")
    return bool(reason) and found.rule in ids and alone


def fingerprints(found: Iterable[Found]) -> list[tuple[Found, str]]:
    """Each finding with what stays the same when lines move: rule, path, source line and its how-manieth."""
    seen: Counter[str] = Counter()
    result = []
    for one in found:
        key = f"{one.rule} {one.path} {one.source}"
        seen[key] += 1
        result.append((one, f"{key} #{seen[key]}"))
    return result


def read_baseline(path: Path) -> frozenset[str]:
    """The fingerprints in a baseline. Raises UsageError when there are none to read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return frozenset(str(one) for one in data["findings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: no baseline: {error}") from error


def write_baseline(path: Path, found: Iterable[Found]) -> None:
    """Note the present findings. Raises UsageError when the file cannot be written."""
    data = {"version": 1, "findings": sorted(key for _, key in fingerprints(found))}
    try:
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error

"""Adding requirements to a `pyproject.toml` as text. The result is read again: an edit that changed anything
else is none.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any


def with_items(text: str, path: Sequence[str], items: Sequence[str]) -> str | None:
    """The text with `items` at the end of the array at `path`; None when that cannot be done for certain."""
    lines = text.splitlines()
    span = array_span(lines, ".".join(path[:-1]), path[-1])
    if span is None:
        return None
    first, last = span
    quoted = [json.dumps(item) for item in items]
    if first == last:
        head, bracket, tail = lines[first].rpartition("]")
        head = head.rstrip().removesuffix(",")
        comma = "" if head.endswith("[") else ", "
        lines[first] = f"{head}{comma}{', '.join(quoted)}{bracket}{tail}"
    else:
        lines[last:last] = [f"{indent_of(lines[first + 1 : last])}{item}," for item in quoted]
        end_with_comma(lines, first, last)
    return checked(text, "\n".join(lines) + "\n", path, lambda old: [*old, *items])


def with_entries(text: str, path: Sequence[str], entries: dict[str, Any]) -> str | None:
    """The text with `entries` at the end of the table at `path`; None when that is not certain."""
    lines = text.splitlines()
    header = next((i for i, line in enumerate(lines) if line.strip() == f"[{'.'.join(path)}]"), None)
    if header is None:
        return None
    end = next((i for i in range(header + 1, len(lines)) if lines[i].startswith("[")), len(lines))
    while end > header + 1 and not lines[end - 1].strip():
        end -= 1
    lines[end:end] = [f"{name} = {value_source(value)}" for name, value in entries.items()]
    return checked(text, "\n".join(lines) + "\n", path, lambda old: {**old, **entries})


def value_source(value: Any) -> str:
    """A text, or an inline table of texts and lists, as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {json.dumps(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


def array_span(lines: list[str], table: str, key: str) -> tuple[int, int] | None:
    """First and last line of an array; None when it is not written plainly."""
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("["):
            inside = line.partition("#")[0].strip() == f"[{table}]"
        if inside and re.match(rf"{re.escape(key)}\s*=\s*\[", line):
            if line.rstrip().endswith("]"):
                return number, number
            ends = (i for i in range(number + 1, len(lines)) if lines[i].lstrip().startswith("]"))
            return next(((number, end) for end in ends), None)
    return None


def indent_of(lines: list[str]) -> str:
    """The indentation of the items that are there."""
    item = next((line for line in lines if line.lstrip().startswith(('"', "'"))), "    ")
    return item[: len(item) - len(item.lstrip())] or "    "


def end_with_comma(lines: list[str], first: int, last: int) -> None:
    """Give the item before line `last` the comma that it may lack."""
    for number in range(last - 1, first, -1):
        if match := re.match(r"""(\s*(?:"[^"]*"|'[^']*'))(,?)(.*)$""", lines[number]):
            lines[number] = f"{match[1]},{match[3]}"
            return


def checked(old: str, new: str, path: Sequence[str], change: Any) -> str | None:
    """The new text if it means what the old one means but for the one change."""
    try:
        before, after = tomllib.loads(old), tomllib.loads(new)
    except tomllib.TOMLDecodeError:
        return None
    wanted = copy.deepcopy(before)
    place: Any = wanted
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = change(place[path[-1]])
    return new if after == wanted else None

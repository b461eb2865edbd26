"""Files that start processes, cut into the parts that belong to one container."""

from __future__ import annotations

import re
from collections.abc import Iterator

from checkkit.notes import TextFile

KEY = re.compile(r"^  [\w.-]+:\s*(#.*)?$")
# A command ends at a sign of the shell, or where the next key of a manifest begins.
COMMAND = r"\bcelery\b(?:(?!\b(?:worker|beat|flower|inspect|control|status)\b|[\w-]+:(?:\s|$))[^#;&|])*"
BEAT = re.compile(COMMAND + r"\bbeat\b")
WORKER = re.compile(COMMAND + r"\bworker\b")


def is_yaml(file: TextFile) -> bool:
    """Whether it may be a compose file or a manifest."""
    return file.shown.endswith((".yml", ".yaml"))


def parts(file: TextFile) -> Iterator[tuple[int, list[str]]]:
    """The services of a compose file, or the documents of a manifest, with the number of their first line."""
    lines = file.text.split("\n")
    compose = any(line.startswith("services:") for line in lines)
    first = 0
    for index, line in enumerate(lines):
        if line.startswith("---") or (compose and (KEY.match(line) or (line[:1].isalpha()))):
            yield first + 1, lines[first:index]
            first = index
    yield first + 1, lines[first:]


def is_service(file: TextFile, part: list[str]) -> bool:
    """Whether a part is a service of a compose file."""
    return bool(re.search(r"^services:", file.text, re.MULTILINE) and part and KEY.match(part[0]))


def command(line: str) -> str:
    """A line without quotes, brackets and comments, so that a list of words reads as a command."""
    return re.sub(r"[\"',\[\]]+", " ", line.split("#", maxsplit=1)[0])


def whole(part: list[str]) -> str:
    """The commands of a part in one line: a list of arguments may stand below each other."""
    return " ".join(re.sub(r"^\s*-\s+", "", command(line)).strip() for line in part)

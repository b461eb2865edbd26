"""The record of what landed in a project: `workers.lock`, a line for each copy of a template.

A line is the skill's version, a hash of what the copy said, the text that later changes are told by (or `-`
where the project's own history has it), and the path. A copy that says what the record says was not edited.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from workerkit.files import LARGEST
from workerkit.git import versions
from workerkit.plan import EDITED, NEW, REPLACED, SAME, Change, Target, decide_one
from workerkit.project import Project
from workerkit.said import said
from workerkit.templates import TEMPLATES

NAME = "workers.lock"
HEAD = (
    "# What add_worker.py copied here, as it was then; to be committed, not edited. `add_worker.py upgrade`\n"
    "# tells your changes from the templates' by it. Version, hash, text if it is needed, file:\n"
)
LINE = re.compile(r"(\S+) ([0-9a-f]{32}) (\S+) (.+)")
VERSION = re.compile(r'^  version: "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A copy as it landed."""

    version: str
    said: str
    text: str | None = None
    """The template's text, where the project's copy was never the same."""

    @classmethod
    def of(cls, text: str, *, keep: bool = False) -> Entry:
        """What a template of today leaves behind."""
        return cls(version(), said(text), text if keep else None)

    def base(self, project: Project, path: Path) -> str | None:
        """The text that landed; None when neither the record nor the project's history has it."""
        if self.text is not None:
            return self.text
        return next((text for text in versions(project.root, path) if said(text) == self.said), None)


def version() -> str:
    """The version of these templates."""
    try:
        found = VERSION.search((TEMPLATES.parent / "SKILL.md").read_text(encoding="utf-8"))
    except OSError:  # somebody has copied the scripts and the templates alone
        return "unknown"
    return found[1] if found else "unknown"


def read_record(project: Project) -> dict[str, Entry]:
    """The entries by path; lines that are none, such as those that a merge left, are passed over."""
    try:
        text = (project.root / NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(entries(text))


def entries(text: str) -> Iterator[tuple[str, Entry]]:
    """The entries of a record."""
    for match in filter(None, map(LINE.fullmatch, text.splitlines())):
        version_, hash_, packed, path = match.groups()
        entry = Entry(version_, hash_, unpacked(packed) if packed != "-" else None)
        if entry.text is None or said(entry.text) == hash_:
            yield path, entry


def record_change(project: Project, found: Mapping[str, Entry]) -> Change:
    """What becomes of the record."""
    lines = [
        f"{entry.version} {entry.said} {packed(entry.text)} {path}\n" for path, entry in sorted(found.items())
    ]
    change = decide_one(project, Target(project.root / NAME, HEAD + "".join(lines), "record"), force=True)
    return replace(change, state=EDITED) if change.state == REPLACED else change


def after_adding(project: Project, changes: Iterable[Change], copied: Collection[Path]) -> list[Change]:
    """The record with what lands now. What is kept as it is keeps its entry."""
    found = read_record(project)
    before = dict(found)
    for change in changes:
        if change.target.path in copied and change.state in (NEW, SAME, REPLACED):
            path, entry = project.shown(change.target.path), Entry.of(change.target.text)
            there = found.get(path)
            if there is None or there.said != entry.said or there.text is not None:
                found[path] = entry
    return [record_change(project, found)] if found or before else []


def packed(text: str | None) -> str:
    """A text as one word."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode() if text is not None else "-"


def unpacked(word: str) -> str | None:
    """The text in a word; None when it is damaged."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(word, validate=True), LARGEST).decode()
    except (ValueError, zlib.error):
        return None

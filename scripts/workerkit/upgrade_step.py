"""What becomes of one copy when a project is upgraded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workerkit.merge import has_markers, merge
from workerkit.plan import CONFLICT, KEPT, MERGED, NEW, REPLACED, SAME, Change, Target, decide_one
from workerkit.project import Project
from workerkit.record import Entry, version
from workerkit.said import said

REMOVED, UNRESOLVED = "removed", "unresolved"


@dataclass(frozen=True)
class Step:
    """What becomes of one copy, and what the record says of it then."""

    change: Change
    entry: Entry | None
    has_base: bool = True

    @property
    def template(self) -> str:
        """The template's text: a merge has it on record."""
        return self.entry.text if self.entry and self.entry.text is not None else self.change.target.text

    @property
    def unclear(self) -> bool:
        """Whether somebody has to choose."""
        return self.change.state in (CONFLICT, UNRESOLVED)


def step(project: Project, target: Target, entry: Entry | None) -> Step:
    """What becomes of one copy."""
    change, today = decide_one(project, target, force=True), Entry.of(target.text)
    if change.state == NEW and entry is not None:  # somebody has removed it
        return Step(replace(change, state=REMOVED), entry)
    if change.state != REPLACED:
        return Step(change, today)
    if has_markers(change.old):
        return Step(replace(change, state=UNRESOLVED), entry)
    return differing(project, change, entry, today)


def differing(project: Project, change: Change, entry: Entry | None, today: Entry) -> Step:
    """What becomes of a copy that is not as the template is."""
    old = said(change.old)
    if old == today.said:  # laid out by another formatter
        return Step(replace(change, state=SAME), today)
    if entry is not None and entry.said == today.said:
        return Step(replace(change, state=KEPT), entry)
    if entry is not None and entry.said == old:
        return Step(change, today)
    return merged(project, change, entry)


def merged(project: Project, change: Change, entry: Entry | None) -> Step:
    """A copy that was edited, of a template that is another one now."""
    target = change.target
    base = entry.base(project, target.path) if entry is not None else None
    found = merge(base, change.old, target.text, version())
    state = CONFLICT if found.conflicts else SAME if found.text == change.old else MERGED
    # The copy is never what the template says, so its next merge finds the template in no history.
    after = Entry.of(target.text, keep=True)
    return Step(Change(replace(target, text=found.text), state, change.old), after, base is not None)

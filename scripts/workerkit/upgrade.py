"""Bringing a project's copies up to the templates: what the project changed stays, what the templates changed
comes in, and where both changed the same lines both stand between markers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from workerkit import landing
from workerkit.compare import copied
from workerkit.errors import UncommittedError
from workerkit.git import uncommitted
from workerkit.merge import has_markers, merge
from workerkit.migrations import read_migrations
from workerkit.new_migrations import new_migrations
from workerkit.plan import (
    CONFLICT,
    KEPT,
    MERGED,
    NEW,
    REPLACED,
    SAME,
    Change,
    Target,
    decide,
    decide_one,
    init_files,
)
from workerkit.presence import present
from workerkit.project import Project
from workerkit.record import NAME, Entry, read_record, record_change, version
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


@dataclass(frozen=True)
class Upgrade:
    """All that an upgrade means for a project. `gone` are copies of templates that there are no more."""

    project: Project
    steps: list[Step]
    more: list[Change]
    gone: list[str]
    version: str = field(default_factory=version)

    @property
    def changes(self) -> list[Change]:
        """The changes, new migrations and the record included."""
        return [*(step.change for step in self.steps), *self.more]

    @property
    def conflicts(self) -> list[str]:
        """Files in which somebody has to choose."""
        return [self.project.shown(step.change.target.path) for step in self.steps if step.unclear]

    @property
    def prove(self) -> str:
        """The command that proves the workers."""
        return f"python -m pytest {landing.shown(self.project)}"

    def check_committed(self) -> None:
        """Raises UncommittedError when a file to change could not be had back from the repository."""
        over = [change.target.path for change in self.changes if change.shows]
        dirty = [self.project.shown(p) for p in uncommitted(self.project.root, over)]
        dirty = [path for path in dirty if path != NAME]
        if dirty:
            raise UncommittedError(f"{', '.join(dirty)}: not committed; commit first, or go on with --force")


def plan_upgrade(project: Project, now: datetime, head: str | None = None) -> Upgrade:
    """Work out all that is to be done; nothing is written. Raises an AddWorkerError."""
    record = read_record(project)
    targets = copied(project)
    steps = [step(project, target, record.get(project.shown(target.path))) for target in targets]
    landing_ = [one.change.target for one in steps if one.change.state == NEW]
    more = decide(project, init_files(project, landing_), force=False)
    more += new_migrations(project, read_migrations(project), new_tables(project, landing_), now, head)
    known = {project.shown(target.path) for target in targets}
    gone = [path for path in gone_from(project, record) if path not in known]
    after = {path: entry for path, entry in record.items() if path not in known and there(project, path)}
    after |= {project.shown(one.change.target.path): one.entry for one in steps if one.entry is not None}
    more += [record_change(project, after)] if after else []
    return Upgrade(project, steps, more, gone)


def new_tables(project: Project, targets: list[Target]) -> list[str]:
    """The tables whose models land now."""
    models = {target.path for target in targets if target.role == "model"}
    tables = dict.fromkeys(table for kind, _ in present(project) for table in kind.tables)
    return [table for table in tables if project.folder / "models" / f"{table}.py" in models]


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


def gone_from(project: Project, record: dict[str, Entry]) -> Iterator[str]:
    """Copies on record in this package and its tests that are still there."""
    folders = (project.shown(project.folder), landing.shown(project))
    for path in record:
        if path.startswith(tuple(f"{folder}/" for folder in folders)) and there(project, path):
            yield path


def there(project: Project, path: str) -> bool:
    """Whether a file on record is there."""
    return (project.root / path).is_file()

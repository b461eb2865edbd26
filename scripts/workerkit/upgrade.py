"""Bringing a project's copies up to the templates: what the project changed stays, what the templates changed
comes in, and where both changed the same lines both stand between markers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from workerkit import landing
from workerkit.compare import copied
from workerkit.errors import UncommittedError
from workerkit.git import uncommitted
from workerkit.migrations import read_migrations
from workerkit.new_migrations import new_migrations
from workerkit.plan import (
    NEW,
    Change,
    Target,
    decide,
    init_files,
)
from workerkit.presence import present
from workerkit.project import Project
from workerkit.record import NAME, Entry, read_record, record_change, version
from workerkit.upgrade_step import Step, step


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


def gone_from(project: Project, record: dict[str, Entry]) -> Iterator[str]:
    """Copies on record in this package and its tests that are still there."""
    folders = (project.shown(project.folder), landing.shown(project))
    for path in record:
        if path.startswith(tuple(f"{folder}/" for folder in folders)) and there(project, path):
            yield path


def there(project: Project, path: str) -> bool:
    """Whether a file on record is there."""
    return (project.root / path).is_file()

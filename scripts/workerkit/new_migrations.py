"""The migrations that create the tables of workers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from workerkit.migrations import Migrations
from workerkit.plan import SAME, Change, Target, decide
from workerkit.project import Project


def new_migrations(
    project: Project, migrations: Migrations | None, tables: Iterable[str], now: datetime, head: str | None
) -> list[Change]:
    """The migrations that create the tables, unless some do so already: those stay as they are."""
    if migrations is None:
        return []
    changes = []
    for table in tables:
        done = migrations.creates(table)
        if done is not None:
            text = done.path.read_text(encoding="utf-8")
            changes.append(Change(Target(done.path, text, "migration"), SAME, text))
            continue
        path, text = migrations.new(table, now, head)
        changes += decide(project, [Target(path, text, "migration")], force=False)
        migrations = migrations.followed_by(path, text)
        head = migrations.revisions[-1].id
    return changes

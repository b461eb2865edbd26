"""The project's Alembic history, and the migration that a worker's table adds to it."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workerkit.errors import MigrationError
from workerkit.project import Project
from workerkit.source import Module, read_module
from workerkit.templates import text_of

STAMP = "%Y%m%d_%H%M"
STAMPED = re.compile(r"\d{8}_\d{4}")


@dataclass(frozen=True)
class Revision:
    """A migration of the project."""

    path: Path
    id: str
    parents: tuple[str, ...]
    tables: frozenset[str]


@dataclass(frozen=True)
class Migrations:
    """The project's migrations; `folder` is where the next one goes."""

    folder: Path
    revisions: tuple[Revision, ...]

    def creates(self, table: str) -> Revision | None:
        """The migration that creates `table`, or None."""
        return next((revision for revision in self.revisions if table in revision.tables), None)

    def head(self, chosen: str | None = None) -> str | None:
        """The revision to build on; None when there is none yet. Raises MigrationError unless it is clear."""
        parents = {parent for revision in self.revisions for parent in revision.parents}
        heads = sorted(revision.id for revision in self.revisions if revision.id not in parents)
        if chosen is not None:
            if chosen not in heads:
                known = ", ".join(heads) or "none"
                raise MigrationError(f"--head {chosen}: no head of {self.folder}; heads: {known}")
            return chosen
        if len(heads) > 1:
            raise MigrationError(
                f"{self.folder} has several heads: {', '.join(heads)}; merge them (alembic merge heads) "
                "or choose one with --head"
            )
        if self.revisions and not heads:
            raise MigrationError(f"{self.folder}: the migrations run in a circle")
        return heads[0] if heads else None

    def stamp(self, now: datetime) -> str:
        """A revision id made from the time, later than all that are there."""
        names = [name for revision in self.revisions for name in (revision.id, revision.path.name)]
        taken = [found for found in map(parsed_stamp, names) if found is not None]
        soonest = max(taken) + timedelta(minutes=1) if taken else now
        return max(now, soonest).strftime(STAMP)

    def new(self, table: str, now: datetime, head: str | None) -> tuple[Path, str]:
        """Path and text of the migration that creates `table`."""
        down, stamp = self.head(head), self.stamp(now)
        down_line = f'down_revision = "{down}"' if down else "down_revision = None"
        text = text_of(f"migrations/{table}.py")
        text = substituted(text, r"^revision = .*$", f'revision = "{stamp}"')
        text = substituted(text, r"^down_revision = .*$", down_line)
        text = substituted(text, r"^Revision ID:.*$", f"Revision ID: {stamp}")
        text = substituted(text, r"^Revises:.*$", f"Revises: {down}" if down else "Revises:")
        text = substituted(text, r"^Create Date:.*$", f"Create Date: {now:%Y-%m-%d %H:%M}:00+00:00")
        return self.folder / f"{stamp}_{table}.py", text

    def followed_by(self, path: Path, text: str) -> Migrations:
        """These and another one, which is not written yet."""
        return replace(self, revisions=(*self.revisions, *revisions_in(Module(path.stem, path, text))))


def tables_of(table: str) -> list[str]:
    """The tables that the migration of `table` creates."""
    return sorted(set(created(ast.parse(text_of(f"migrations/{table}.py")))))


def substituted(text: str, pattern: str, line: str) -> str:
    """`text` with the line that fits `pattern` replaced."""
    return re.sub(pattern, lambda _: line, text, count=1, flags=re.MULTILINE)


def parsed_stamp(name: str) -> datetime | None:
    """The time at the beginning of a revision id or file name, or None."""
    match = STAMPED.match(name)
    try:
        return datetime.strptime(match[0], STAMP).replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def read_migrations(project: Project) -> Migrations | None:
    """The project's migrations; None when it does not use Alembic. Raises MigrationError."""
    location = script_location(project)
    if location is None:
        return None
    if not (location / "env.py").is_file():
        raise MigrationError(f"{location}: Alembic's script_location has no env.py")
    folder = location / "versions"
    paths = sorted(folder.glob("*.py")) if folder.is_dir() else []
    return Migrations(
        folder, tuple(found for path in paths for found in revisions_in(read_module(path.stem, path)))
    )


def script_location(project: Project) -> Path | None:
    """The folder that alembic.ini, or pyproject.toml, names."""
    for folder in dict.fromkeys((project.root, project.import_root, project.import_root.parent)):
        path = folder / "alembic.ini"
        if folder.is_relative_to(project.root) and path.is_file():
            parser = configparser.RawConfigParser()
            try:
                parser.read_string(path.read_text(encoding="utf-8"))
                given = parser.get("alembic", "script_location")
            except configparser.Error as error:
                raise MigrationError(f"{path}: {error}") from error
            return (folder / given.replace("%(here)s", str(folder))).resolve()
    given = project.pyproject.get("tool", {}).get("alembic", {}).get("script_location")
    return (project.root / str(given).replace("%(here)s", str(project.root))).resolve() if given else None


def revisions_in(module: Module) -> Iterator[Revision]:
    """The migration in a module; nothing when it has none."""
    values: dict[str, ast.expr] = {}
    for node in module.tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                values[name] = value
    if "revision" in values:
        ids = strings(values["revision"])
        parents = strings(values["down_revision"]) if "down_revision" in values else ()
        tables = frozenset(created(module.tree))
        yield Revision(module.path, ids[0] if ids else module.name, parents, tables)


def strings(node: ast.expr) -> tuple[str, ...]:
    """The text constants in an expression."""
    return tuple(n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def created(tree: ast.Module) -> Iterator[str]:
    """Names of the tables that a migration creates."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "create_table" and node.args:
            yield from strings(node.args[0])

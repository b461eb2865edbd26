"""All that can be read of a project before anything is written into it. Nothing is imported or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workerkit.errors import MigrationError, ProjectError
from workerkit.look import Code, read_code
from workerkit.look_around import Around, look_around
from workerkit.look_errors import ErrorClass, look_at_errors
from workerkit.look_sessions import Sessions, look_at_sessions
from workerkit.look_settings import Found, look_at_settings, variable_of
from workerkit.look_tables import Tables, look_at_tables
from workerkit.migrations import Migrations, read_migrations
from workerkit.project import Project


@dataclass(frozen=True)
class Survey:
    """What was found. `broken` are files that could not be read or parsed."""

    project: Project
    codes: list[Code]
    broken: list[Path]
    settings: Found
    sessions: Sessions
    tables: Tables
    errors: list[ErrorClass]
    migrations: Migrations | None
    migrations_problem: str = ""

    @property
    def around(self) -> Around:
        """What stands around the code."""
        project = self.project
        return look_around(project.root, self.codes, project.tests, project.pyproject)

    @property
    def database_variable(self) -> str | None:
        """The environment variable with the database's address; None when that is unclear."""
        engines = [engine for engine in self.sessions.engines if engine.address is not None]
        found = {
            variable_of(engine.code, engine.address, self.settings)
            for engine in engines
            if engine.address is not None
        }
        return found.pop() if len(found) == 1 else None


def survey(project: Project) -> Survey:
    """Look at a project; the folder of its workers is left out when they have one of their own."""
    codes, broken = read_code(project.own_folder, project.import_root)
    if project.own is not None:
        codes = [code for code in codes if not code.path.is_relative_to(project.folder)]
    own = [code for code in codes if "versions" not in code.path.parent.parts]
    migrations, problem = migrations_of(project)
    return Survey(
        project,
        own,
        broken,
        look_at_settings(own),
        look_at_sessions(own),
        look_at_tables(own),
        look_at_errors(own),
        migrations,
        problem,
    )


def migrations_of(project: Project) -> tuple[Migrations | None, str]:
    """The migrations, or what is wrong with them."""
    try:
        return read_migrations(project), ""
    except (MigrationError, ProjectError) as error:
        return None, str(error)

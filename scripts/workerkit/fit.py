"""Fitting the workers into a project: where they land, and through what they reach its own parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from workerkit.errors import ProjectError
from workerkit.look import Place
from workerkit.look_sessions import Engine, Helper
from workerkit.look_settings import Access
from workerkit.look_tables import Base
from workerkit.plan import Target
from workerkit.project import Project
from workerkit.service import Service
from workerkit.shims import base_shim, session_shim, settings_shim, sync_shim, tables_shim
from workerkit.survey import Survey
from workerkit.templates import PACKAGE, renamed

CONFIG, DATABASE, BASE = f"{PACKAGE}.core.config", f"{PACKAGE}.core.database", f"{PACKAGE}.models.base"
T = TypeVar("T", Access, Helper, Base, Engine)


@dataclass(frozen=True)
class Choices:
    """What the user says where the project alone does not: `module:name` each."""

    settings: str = ""
    session: str = ""
    base: str = ""


@dataclass(frozen=True)
class Fit:
    """A project and what fits the workers into it."""

    project: Project
    survey: Survey
    choices: Choices = field(default_factory=Choices)

    @property
    def made(self) -> set[str]:
        """The modules of the templates that are written for the project, not copied."""
        return {CONFIG, DATABASE, BASE} if self.project.own is not None else set()

    def shims(self) -> list[Target]:
        """The modules that connect. Raises ProjectError where the project leaves a choice open."""
        if self.made and self.survey.broken:
            broken = ", ".join(self.project.shown(path) for path in self.survey.broken)
            raise ProjectError(f"{broken}: not valid Python, or unreadable, so what it holds is not known")
        texts = {CONFIG: self.config, DATABASE: self.database, BASE: self.base} if self.made else {}
        targets = [self.target(name, text) for name, text in texts.items()]
        if self.made:
            path = self.project.folder / "tables.py"
            targets.append(Target(path, tables_shim(self.project.package), "core", frozenset({"models"})))
        return targets

    def target(self, name: str, text: Callable[[], str]) -> Target:
        """One of them; what is there stays as it is, and is then not made anew."""
        path = self.project.import_root.joinpath(*renamed(name, self.project.package).split("."))
        path = path.with_suffix(".py")
        wanted = {CONFIG: "settings", DATABASE: "get_session", BASE: "Base"}[name]
        there = self.project.module(renamed(name, self.project.package))
        return Target(path, there.text if there is not None else text(), "core", frozenset({wanted}))

    @property
    def is_sync(self) -> bool:
        """Whether the project has synchronous sessions only."""
        return not self.choices.session and not usable(self.survey.sessions.helpers, is_async=True)

    @property
    def libraries(self) -> set[str]:
        """What the written modules import that the project may not have."""
        return {"asyncpg"} if self.made and self.is_sync else set()

    def todo(self) -> list[str]:
        """What only the project's people can say."""
        steps = []
        if self.project.database_variable is None:
            steps.append(
                f"in {self.project.shown(self.project.tests)}/workers/lab.py set DATABASE_VARIABLE: "
                "which variable holds the database's address could not be told"
            )
        if self.libraries:
            steps.append("SQLAlchemy needs its extra now: sqlalchemy[asyncio]")
        transient = [e.place.target for e in self.survey.errors if e.meaning == "transient"]
        if transient and self.made:
            steps.append(
                f"add to TRANSIENT in {self.project.shown(self.project.folder)}/core/failures.py what may "
                f"pass, by its name perhaps: {', '.join(transient)}"
            )
        return steps

    def remarks(self, service: Service | None) -> list[str]:
        """What is good to know about the fit."""
        found = []
        if self.made:
            needing = [h for h in self.survey.sessions.helpers if h.needs and h.form != "generator"]
            found += [
                f"{helper.place.target} needs {', '.join(helper.needs)}: sessions of workers are made "
                "without; where rows belong to a tenant, the service takes it from the message and sets it"
                for helper in needing
            ]
            if {base.schema for base in self.survey.tables.bases if base.schema}:
                found.append(
                    "the metadata has a schema: the workers' SQL names tables without one, so put it on the "
                    "database user's search_path"
                )
        others = self.survey.sessions.dialects
        if others and not others & {"postgresql", "postgres"}:
            found.append(f"workers need PostgreSQL; addresses in the code name {', '.join(sorted(others))}")
        if service is not None and service.is_sync:
            found.append(
                f"{service.qualified} is synchronous: it runs in the worker's transaction and loop, and "
                "while it waits for anything but the database the process renews no lease; keep such calls "
                "shorter than WORKER_LEASE_SECONDS, or use celery-task, whose tasks have their own process"
            )
        return found

    def config(self) -> str:
        """The settings."""
        found = list(self.survey.settings.accesses)
        telling = [a for a in found if any("database" in n.lower() or "db" in n.lower() for n in a.of.fields)]
        best = first_forms(telling or found, lambda access: access.form)
        return settings_shim(self.one("settings", best, self.choices.settings, found))

    def database(self) -> str:
        """The sessions."""
        sessions = self.survey.sessions
        if not self.is_sync:
            helpers = usable(sessions.helpers, is_async=True)
            if self.choices.session:
                return session_shim(self.given_session(self.choices.session))
            best = self.preferred(helpers)
            helper = self.one("session", best, "", helpers)
            assert helper is not None
            return session_shim(helper)
        engines = [engine for engine in sessions.engines if engine.place.name and not engine.is_async]
        if not engines:
            raise ProjectError(self.no_session())
        engine = self.one("session", engines, "", engines)
        assert engine is not None
        return sync_shim(engine, sqlmodel=sessions.sqlmodel)

    def no_session(self) -> str:
        """Why there is nothing to build on."""
        where = self.project.shown(self.project.own_folder)
        unusable = [helper.shown for helper in self.survey.sessions.helpers]
        found = f"; not usable: {'; '.join(unusable)}" if unusable else ""
        return (
            f"{where}: no database session found that a worker could use{found}; workers keep their record "
            "in PostgreSQL: name an async_sessionmaker or a session helper with --session module:name"
        )

    def preferred(self, helpers: list[Helper]) -> list[Helper]:
        """The best form; of several factories the one that the project's own dependency uses."""
        managers = [h for h in helpers if h.form == "context manager" and h.commits]
        factories = [h for h in helpers if h.form == "factory"]
        if len(factories) > 1 and not managers:
            used = {name for helper in self.survey.sessions.helpers for name in helper.uses}
            factories = [factory for factory in factories if factory.place.name in used] or factories
        return managers or factories or helpers

    def given_session(self, given: str) -> Helper:
        """The helper that `--session` names. Raises ProjectError."""
        known = {helper.place.target: helper for helper in self.survey.sessions.helpers}
        if given in known and known[given].form != "method":
            return known[given]
        module, colon, name = given.partition(":")
        if not (colon and name) or self.project.module(module) is None:
            listed = "; ".join(helper.shown for helper in known.values()) or "none"
            raise ProjectError(f"--session {given}: write module:name; found: {listed}")
        # Something that only runs can tell, such as a method of an object.
        return Helper(Place(module, name, Path()), "method", is_async=True, commits=True)

    def base(self) -> str:
        """The metadata of the tables."""
        tables = self.survey.tables
        if not self.choices.base and tables.sqlmodel:
            return base_shim(None, sqlmodel=True)
        bases = list(tables.bases)
        return base_shim(self.one("base", bases, self.choices.base, bases), sqlmodel=False)

    def one(self, what: str, best: list[T], given: str, all_: Iterable[T]) -> T | None:
        """The one that was chosen, or the only one. Raises ProjectError, listing them, when it is unclear."""
        if given:
            best = [found for found in all_ if found.place.target == given]
        listed = ", ".join(found.place.target for found in (all_ if given else best)) or "none"
        if given and not best:
            raise ProjectError(f"--{what} {given}: not found; there are: {listed}")
        if len(best) > 1:
            raise ProjectError(
                f"{self.project.shown(self.project.own_folder)}: several could be meant: {listed}; choose "
                f"with --{what} {best[0].place.target}"
            )
        return best[0] if best else None


def usable(helpers: Iterable[Helper], *, is_async: bool) -> list[Helper]:
    """Those that can be called without knowing more, and that let errors pass."""
    return [
        helper
        for helper in helpers
        if helper.is_async is is_async
        and not helper.needs
        and not helper.swallows
        and helper.form != "method"
    ]


def first_forms(found: list[T], form: Callable[[T], str]) -> list[T]:
    """Those of the first form that there is."""
    return [one for one in found if form(one) == form(found[0])]

"""Opening a project: its package, and the package in which the workers live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workerkit.errors import ProjectError, TargetExistsError
from workerkit.files import text_of_file, tree_of
from workerkit.fit import Choices, Fit
from workerkit.look import Code, FunctionNode, decorators, required
from workerkit.look_tables import bases_in
from workerkit.project import Project, describe, open_project, packages
from workerkit.roots import Root, application_roots, chosen_root
from workerkit.shims import SETTINGS_HEADS
from workerkit.source import Module
from workerkit.survey import survey
from workerkit.templates import LAYERS

APART = "background"
LANDED = ("core", "outcomes.py")  # in every package that has workers


def open_fit(
    path: Path, package: str | None = None, home: str | None = None, choices: Choices | None = None
) -> Fit:
    """The project at `path`, and what fits workers into it. Raises ProjectError unless one package fits."""
    project = at_home(find(path, package), home)
    found = survey(project)
    project = replace(project, database_variable=found.database_variable)
    return Fit(project, found, choices or Choices())


def find(path: Path, package: str | None) -> Project:
    """The project by its own package. Raises ProjectError unless one fits."""
    root = path.resolve()
    if not root.is_dir() or (root / "core" / "config.py").is_file():
        return open_project(path, package)  # which says what is wrong
    layered = [describe(root, folder) for folder in packages(root, 0) if not is_apart(folder)]
    names = {name for project in layered for name in (project.package, project.shown(project.folder))}
    if package in names:
        return next(p for p in layered if package in (p.package, p.shown(p.folder)))
    if layered and package is None:
        return layered[0] if len(layered) == 1 else open_project(path, package)
    if package is not None:
        chosen = chosen_root(root, package)
        return project_of(root, chosen) if chosen else open_project(path, package)
    roots = application_roots(root)
    if len(roots) > 1:
        places = ", ".join(found.folder.relative_to(root).as_posix() for found in roots)
        raise ProjectError(f"{path}: several packages make a FastAPI(): {places}; choose with --package")
    return project_of(root, roots[0]) if roots else open_project(path)


def is_apart(folder: Path) -> bool:
    """Whether a package is one of workers only, and so not the project's own."""
    text = text_of_file(folder / "core" / "config.py") or ""
    return text.startswith(SETTINGS_HEADS)


def project_of(root: Path, found: Root) -> Project:
    """The project with a package; one without gets a package for its workers."""
    if found.package:
        return Project(root, found.import_root, found.package)
    return Project(root, found.import_root, APART, own="")


def at_home(project: Project, home: str | None) -> Project:
    """The project with the place of its workers: its own package if that is built as the templates expect, or
    has workers already, else one below it.
    """
    own = project.package if project.own is None else project.own
    if home is not None:
        return project if home == own else checked(replace(project, package=home, own=own))
    if own and (project.own_folder.joinpath(*LANDED).is_file() or as_expected(project)):
        return project
    apart = f"{own}.{APART}" if own else APART
    return checked(replace(project, package=apart, own=own))


def checked(project: Project) -> Project:
    """The project if nothing else has the name of the workers' package."""
    parts = project.package.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ProjectError(f"--home {project.package}: write a package with dots, such as acme.{APART}")
    folder = project.folder
    if not folder.parent.is_dir():
        raise ProjectError(f"--home {project.package}: no folder {project.shown(folder.parent)}")
    foreign = folder.is_dir() and any(folder.glob("*.py")) and not folder.joinpath(*LANDED).is_file()
    if foreign and [path.name for path in folder.glob("*.py")] != ["__init__.py"]:
        raise TargetExistsError(f"{project.shown(folder)}: is something else; choose another with --home")
    if folder.with_suffix(".py").exists():
        raise TargetExistsError(
            f"{project.shown(folder)}.py: a module has the name of the workers' package; choose another with "
            "--home"
        )
    return project


def as_expected(project: Project) -> bool:
    """Whether the templates can be copied beside the project's own modules as they are."""
    clash = any((project.folder / f"{layer}.py").is_file() for layer in LAYERS.split("|"))
    return not clash and settings_fit(project) and session_fits(project) and base_fits(project)


def settings_fit(project: Project) -> bool:
    """Whether `core.config` has `settings`."""
    module = parsed(project, "core", "config")
    return module is not None and "settings" in module.top_level


def session_fits(project: Project) -> bool:
    """Whether `core.database` has a `get_session` that is a context manager and asks for nothing."""
    module = parsed(project, "core", "database")
    node = module.top_level.get("get_session") if module is not None else None
    if node is None or not isinstance(node, FunctionNode):
        return node is not None
    return "asynccontextmanager" in decorators(node) and not required(node)


def base_fits(project: Project) -> bool:
    """Whether `models.base` has a `Base` that gives its models no columns."""
    module = parsed(project, "models", "base")
    if module is None or "Base" not in module.top_level:
        return False
    found = [
        base for base in bases_in(Code(module.path, module.name, module.tree)) if base.place.name == "Base"
    ]
    return all(base.plain and not base.schema for base in found)


def parsed(project: Project, *parts: str) -> Module | None:
    """A module of the project; None where there is none, or none that can be parsed."""
    path = project.folder.joinpath(*parts).with_suffix(".py")
    tree = tree_of(path) if path.is_file() else None
    return project.module(".".join([project.package, *parts])) if tree is not None else None

"""What the templates take for granted in a project: settings, a session helper, a base of the models."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable

from workerkit.errors import ProjectError
from workerkit.project import Project
from workerkit.source import Function, Module
from workerkit.templates import needs, renamed

SESSION_HELPER = "get_session"


def check_requirements(
    project: Project, modules: dict[str, Module], but: Collection[str], made: Collection[str] = ()
) -> None:
    """Raises ProjectError when the project lacks what the templates, except for `but`, import from it. What
    is `made` for the project is there.
    """
    for name, names in sorted(needs(module for module in modules.values() if module.name not in but).items()):
        if name not in modules and name not in made:
            check_module(project, renamed(name, project.package), names)


def check_module(project: Project, name: str, names: set[str]) -> None:
    """Raises ProjectError unless `names` are in the module `name`, or are modules below it."""
    inner = {wanted for wanted in names if project.module(f"{name}.{wanted}") is not None}
    wanted = names - inner
    module = project.module(name)
    if module is None and (wanted or not names):
        expected = f", where the templates expect {listed(wanted)}" if wanted else ""
        raise ProjectError(f"no module {name} in {project.import_root}{expected}")
    if module is not None:
        absent = wanted - module.top_level.keys()
        if absent:
            raise ProjectError(
                f"{project.shown(module.path)}: lacks {listed(absent)}, which the templates import"
            )
        check_session_helper(project, module)


def check_session_helper(project: Project, module: Module) -> None:
    """Raises ProjectError for a session helper that is no context manager, as FastAPI's dependencies are."""
    node = module.top_level.get(SESSION_HELPER)
    if not isinstance(node, Function):
        return
    decorators = {getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list}
    if not isinstance(node, ast.AsyncFunctionDef) or "asynccontextmanager" not in decorators:
        raise ProjectError(
            f"{project.shown(module.path)}:{node.lineno}: {SESSION_HELPER} is no @asynccontextmanager; the "
            f"templates write `async with {SESSION_HELPER}() as session`"
        )


def listed(names: Iterable[str]) -> str:
    """Names as a person lists them."""
    return ", ".join(sorted(names))

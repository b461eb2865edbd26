"""What is left to the user after an upgrade, and what is good to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workerkit import advice, dependencies
from workerkit.files import python_files, tree_of
from workerkit.migrations import script_location
from workerkit.plan import MERGED, NEW, REPLACED, Change
from workerkit.project import Project
from workerkit.record import read_record
from workerkit.source import Module
from workerkit.templates import libraries
from workerkit.upgrade import Upgrade, new_tables
from workerkit.upgrade_step import REMOVED, UNRESOLVED, Step


def left_to_do(upgrade: Upgrade) -> Iterator[str]:
    """The steps that are left to the user."""
    project = upgrade.project
    changed = [step.change for step in upgrade.steps if step.change.writes]
    if upgrade.conflicts:
        yield f"choose between <<<<<<< and >>>>>>> in {', '.join(upgrade.conflicts)}"
    if missing := list(new_requirements(project, upgrade.steps)):
        yield f"add to {dependencies.where(project)}: {', '.join(missing)}"
    tables = new_tables(project, [change.target for change in changed if change.state == NEW])
    if script_location(project) is None:
        yield from (advice.creation(project, table) for table in tables)
    elif tables:
        yield "alembic upgrade head"
    models = [change for change in changed if change.target.role == "model" and change.state != NEW]
    if models:
        shown = ", ".join(project.shown(change.target.path) for change in models)
        yield f"a migration for what is new in {shown}: alembic revision --autogenerate, and read it"
    yield from lost_names(project, changed)
    if changed:
        before = {entry.version for entry in read_record(project).values()} - {upgrade.version}
        since = f" since {min(before)}" if before else ""
        yield f"read what the skill's CHANGELOG.md asks for{since}; run your formatter and your tests"


def new_requirements(project: Project, steps: Iterable[Step]) -> Iterator[str]:
    """Requirements of what the templates import and the copies did not."""
    named = set(dependencies.declared(project))
    changed = [step for step in steps if step.change.writes]
    new = libraries(module(step.change, step.template) for step in changed)
    old = libraries(module(step.change, step.change.old) for step in changed)
    for name in sorted((new - old) & dependencies.RUNTIME.keys()):
        requirement = dependencies.RUNTIME[name]
        if dependencies.name_of(requirement) not in named:
            yield requirement


def lost_names(project: Project, changed: list[Change]) -> Iterator[str]:
    """What modules of the project import and will not find any more."""
    lost: set[tuple[str, str]] = set()
    for change in changed:
        if change.state in (REPLACED, MERGED):
            names = module(change, change.old).top_level.keys()
            gone = names - module(change, change.target.text).top_level.keys()
            lost |= {(dotted(project, change), name) for name in gone}
    copies = {change.target.path for change in changed}
    for path in python_files(project.import_root) if lost else ():
        tree = tree_of(path)
        if path not in copies and tree is not None:
            own = ".".join(path.relative_to(project.import_root).with_suffix("").parts)
            found = {
                (i.module, i.name) for i in Module(own, path, path.read_text(encoding="utf-8-sig")).imports
            }
            for name, what in sorted(found & lost):
                yield f"{project.shown(path)} imports {what} of {name}, which has none any more"


def module(change: Change, text: str) -> Module:
    """A text as a module."""
    return Module(change.target.path.stem, change.target.path, text)


def dotted(project: Project, change: Change) -> str:
    """The name of a copy's module."""
    path = change.target.path.with_suffix("")
    root = project.import_root if path.is_relative_to(project.import_root) else project.root
    return ".".join(path.relative_to(root).parts)


def remarks(upgrade: Upgrade) -> Iterator[str]:
    """What is good to know."""
    shown = upgrade.project.shown
    for step in upgrade.steps:
        path = shown(step.change.target.path)
        if step.change.state == REMOVED:
            yield f"{path}: was removed here; not added again"
        if step.change.state == UNRESOLVED:
            yield f"{path}: has conflicts of an earlier upgrade; left as it is"
        if not step.has_base:
            yield (
                f"{path}: what landed is neither in the record nor in Git's history, so each line that "
                "differs is a conflict"
            )
    yield from (
        f"{path}: no template any more; remove it if nothing of yours needs it" for path in upgrade.gone
    )

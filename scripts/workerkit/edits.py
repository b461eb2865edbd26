"""Small edits of files that the project has: dependencies, the list of processes, what creates the tables,
the README.

Each one is made where it is certain, and is otherwise left to the user with the exact text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workerkit import dependencies
from workerkit.brokers import Broker
from workerkit.fit import Fit
from workerkit.look import Code
from workerkit.plan import EDITED, Change, Target
from workerkit.process_edit import add_processes, editable
from workerkit.readme_edit import add_section
from workerkit.requirement_edit import add_requirements

RUNTIME, TESTING, TABLES = "runtime", "testing", "tables"
WHY = "# noqa: F401  # the workers' tables"


@dataclass(frozen=True)
class Edits:
    """The edits, what need not be said any more, and what is to be done besides."""

    changes: list[Change] = field(default_factory=list)
    done: frozenset[str] = frozenset()
    todo: list[str] = field(default_factory=list)


def edits(
    fit: Fit, broker: Broker, libraries: Iterable[str], processes: Mapping[str, str], readme: str = ""
) -> Edits:
    """All edits that adding a worker means. Nothing is written. `readme` is what the README says of it."""
    texts: dict[Path, str] = {}
    done: set[str] = set()
    todo: list[str] = []
    runtime, testing = dependencies.missing(fit.project, broker, libraries)
    for what, items in ((RUNTIME, runtime), (TESTING, testing)):
        added = add_requirements(fit.project, texts, items, testing=what == TESTING) if items else None
        if added is not None:
            done.add(what)
            todo += [added] if added and added not in todo else []
    add_processes(fit.project.root, texts, processes, todo)
    if know_tables(fit, texts, todo):
        done.add(TABLES)
    left = add_section(fit.project, texts, readme) if readme else ""
    todo += [left] if left else []
    return Edits([change(path, text) for path, text in texts.items()], frozenset(done), todo)


def change(path: Path, text: str) -> Change:
    """An edit of an existing file."""
    return Change(Target(path, text, "edit"), EDITED, path.read_text(encoding="utf-8"))


def know_tables(fit: Fit, texts: dict[Path, str], todo: list[str]) -> bool:
    """Import the workers' tables where the project's are created or compared; whether nothing is left to say
    about creating them. Only for workers in a package of their own: else the project's ways find them.
    """
    migrations, project = fit.survey.migrations, fit.project
    if not fit.made:
        return False
    import_ = f"from {project.package} import tables"
    if migrations is not None:
        path = migrations.folder.parent / "env.py"
        todo += edit_or_say(fit, texts, path, import_)
        return False
    creations = fit.survey.tables.creations
    if len(creations) == 1:
        place = creations[0].place
        todo += edit_or_say(fit, texts, place.path, import_, (place.line, creations[0].indent))
    elif creations:
        places = ", ".join(f"{project.shown(c.place.path)}:{c.place.line}" for c in creations)
        todo.append(f"before create_all ({places}): {import_}")
    return bool(creations)


def edit_or_say(
    fit: Fit, texts: dict[Path, str], path: Path, import_: str, at: tuple[int, int] | None = None
) -> list[str]:
    """Insert the import before a line, with an indentation, or among the imports at the top; what is left to
    be done where that is not possible.
    """
    text = editable(path)
    if text is not None and has_import(text, import_):
        return []
    lines = text.splitlines() if text is not None else []
    tree = ast.parse(text) if text is not None else ast.Module([], [])
    module = import_.split()[1]
    line, indent = at or (import_line(Code(path, "", tree), module), 0)
    if not (line and lines):
        return [f"in {fit.project.shown(path)}: {import_}, or the workers' tables look like ones to drop"]
    lines[line - 1 : line - 1] = [f"{' ' * indent}{import_}  {WHY}", *([""] if at else [])]
    texts[path] = "\n".join(lines) + "\n"
    return []


def has_import(text: str, import_: str) -> bool:
    """Whether a line of the text is this import."""
    return any(line.strip().partition("  #")[0] == import_ for line in text.splitlines())


def import_line(code: Code, module: str) -> int:
    """The line before which a sorter would put `from module import …`; 0 when there are no imports."""
    top = module.partition(".")[0]
    own = [
        node
        for node in code.tree.body
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and (node.module or "").partition(".")[0] == top
    ]
    later = [node.lineno for node in own if (node.module or "") > module]
    if later:
        return later[0]
    every = [node for node in code.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    last = (own or every)[-1:]
    return (last[0].end_lineno or last[0].lineno) + 1 if last else 0

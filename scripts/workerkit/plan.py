"""What adding a worker changes in a project: every file with its text and its state. Nothing is written."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workerkit.errors import TargetExistsError
from workerkit.imports import wrapped
from workerkit.kinds import RELAY
from workerkit.project import Project
from workerkit.source import Function, Module
from workerkit.templates import PACKAGE, needs, renamed, rewritten

UNENDED = "\\ No newline at end of file\n"
NEW, SAME, KEPT, REPLACED, EDITED = "new", "same", "kept", "replaced", "edited"
MERGED, CONFLICT = "merged", "conflict"


@dataclass(frozen=True)
class Target:
    """A file that should be in the project.

    `role` is worker, core, model, migration, test, record or edit. `needed` are the names that others import
    from it: a file with these names may differ, because it is an older or edited copy. None: it may not
    differ.
    """

    path: Path
    text: str
    role: str
    needed: frozenset[str] | None = None


@dataclass(frozen=True)
class Change:
    """A target and what happens to it. `old` is the text that is there."""

    target: Target
    state: str
    old: str = ""

    @property
    def writes(self) -> bool:
        """Whether the file is written."""
        return self.state in (NEW, REPLACED, EDITED, MERGED, CONFLICT)

    @property
    def lines(self) -> int:
        """Lines of the target."""
        return len(self.target.text.splitlines())

    @property
    def shows(self) -> bool:
        """Whether the report has to show what becomes of an existing file."""
        return self.writes and self.state != NEW

    def diff(self, project: Project) -> str:
        """What differs, from the project's text to the template's."""
        name = project.shown(self.target.path)
        old, new = self.old.splitlines(keepends=True), self.target.text.splitlines(keepends=True)
        was, is_ = ("project", "template") if self.state in (REPLACED, NEW) else ("before", "after")
        found = difflib.unified_diff(old, new, f"{name} ({was})", f"{name} ({is_})")
        return "".join(line if line.endswith("\n") else f"{line}\n{UNENDED}" for line in found)


def copies(project: Project, modules: dict[str, Module], but: Collection[str]) -> Iterator[Target]:
    """Targets for templates that are copied as they are, but for the name of the package; `but` is not."""
    wanted = needs(modules.values())
    for module in modules.values():
        if module.name in but:
            continue
        name = renamed(module.name, project.package)
        path = project.import_root.joinpath(*name.split(".")).with_suffix(".py")
        text = wrapped(rewritten(module.text, project.package), project.line_length)
        yield Target(path, text, role(module.name), frozenset(wanted.get(module.name) or public(module)))


def role(name: str) -> str:
    """What a template is for its user; consumers are the user's own and no copies."""
    if name == RELAY:
        return "worker"
    return "model" if name.startswith(f"{PACKAGE}.models.") else "core"


def public(module: Module) -> Iterator[str]:
    """The classes and functions of a module that nobody imports: it is known by all of them."""
    return (name for name, node in module.top_level.items() if isinstance(node, ast.ClassDef | Function))


def init_files(project: Project, targets: Iterable[Target]) -> Iterator[Target]:
    """An empty `__init__.py` for each new folder of a package that has them, or packaging leaves it out."""
    if project.source and (project.own_folder / "__init__.py").is_file():
        folders = {target.path.parent for target in targets if target.path.is_relative_to(project.folder)}
        folders |= {project.folder} - {project.own_folder}
        absent = (folder / "__init__.py" for folder in sorted(folders))
        yield from (Target(path, "", "core") for path in absent if not path.exists())


def decide(project: Project, targets: Iterable[Target], *, force: bool) -> list[Change]:
    """What happens to each target. Raises TargetExistsError when something else is in the way."""
    return [decide_one(project, target, force=force) for target in targets]


def decide_one(project: Project, target: Target, *, force: bool) -> Change:
    """What happens to one target."""
    if not target.path.resolve().is_relative_to(project.root):
        raise TargetExistsError(f"{project.shown(target.path)}: a symbolic link leads out of the project")
    try:
        old = target.path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return Change(target, NEW)
    except (OSError, UnicodeDecodeError) as error:
        raise TargetExistsError(
            f"{project.shown(target.path)}: exists and cannot be read: {error}"
        ) from error
    if old == target.text:
        return Change(target, SAME, old)
    if force:
        return Change(target, REPLACED, old)
    where = project.shown(target.path)
    if target.needed is None:
        raise TargetExistsError(f"{where}: exists with other content; --force replaces it")
    absent = target.needed - Module(target.path.stem, target.path, old).top_level.keys()
    if absent:
        names = ", ".join(sorted(absent))
        raise TargetExistsError(
            f"{where}: exists with other content and lacks {names}; --force replaces it, --home keeps the "
            "workers in a package of their own"
        )
    return Change(target, KEPT, old)

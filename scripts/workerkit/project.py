"""What the project looks like: its package, its tests, its name, what it depends on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workerkit.errors import ProjectError
from workerkit.imports import WIDTH
from workerkit.source import Module, find_module

DEEPEST = 4
NOT_SEARCHED = {"node_modules", "site-packages", "tests", "build", "dist", "venv", "env", "__pycache__"}


@dataclass(frozen=True)
class Project:
    """`root` is the folder given by the user, `package` the dotted name of what holds `core/config.py`,
    `import_root` the folder that has to be on the path.
    """

    root: Path
    import_root: Path
    package: str
    own: str | None = None
    """The package of the project's own code, where the workers have one of their own; may be empty."""
    database_variable: str | None = None
    """The environment variable that holds the database's address, if it could be told."""

    @property
    def source(self) -> str:
        """The package of the project's own code; empty when that is in no package."""
        return self.package if self.own is None else self.own

    @property
    def own_folder(self) -> Path:
        """The folder of the project's own code."""
        return self.import_root.joinpath(*self.source.split(".")) if self.source else self.import_root

    @property
    def folder(self) -> Path:
        """The folder of the package."""
        return self.import_root.joinpath(*self.package.split("."))

    def module(self, name: str) -> Module | None:
        """A module of the project by its dotted name, or None."""
        return find_module(self.import_root, name)

    def shown(self, path: Path) -> str:
        """`path` as the user knows it: relative to the project."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        """The contents of `pyproject.toml`; empty without one. Raises ProjectError when it is broken."""
        path = self.pyproject_path
        try:
            return tomllib.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProjectError(f"{path}: {error}") from error

    @property
    def pyproject_path(self) -> Path | None:
        """The `pyproject.toml` of the project, or of the part of it in which the package is."""
        folders = dict.fromkeys((self.root, self.import_root, self.import_root.parent))
        paths = (folder / "pyproject.toml" for folder in folders if folder.is_relative_to(self.root))
        return next((path for path in paths if path.is_file()), None)

    @cached_property
    def line_length(self) -> int:
        """How long lines are by the settings of Ruff; those of the templates where there are none."""
        found = self.pyproject.get("tool", {}).get("ruff")
        for folder in dict.fromkeys((self.root, self.import_root)):
            for name in ("ruff.toml", ".ruff.toml"):
                with suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
                    found = tomllib.loads((folder / name).read_text(encoding="utf-8"))
        length = found.get("line-length", 88) if found is not None else WIDTH
        return length if isinstance(length, int) else WIDTH

    @property
    def name(self) -> str:
        """The project's name, as a part of message types: lower case, digits and `-`."""
        given = self.pyproject.get("project", {}).get("name") or self.root.name
        return re.sub(r"[^a-z0-9]+", "-", str(given).lower()).strip("-") or "app"

    @property
    def tests(self) -> Path:
        """The folder of the project's tests; `tests` when there is none yet."""
        options = self.pyproject.get("tool", {}).get("pytest", {}).get("ini_options", {})
        configured = options.get("testpaths") or []
        names = [configured] if isinstance(configured, str) else [str(name) for name in configured]
        folders = [*(self.root / name for name in names), self.root / "tests", self.import_root / "tests"]
        return next((folder for folder in folders if folder.is_dir()), self.root / "tests")


def open_project(path: Path, package: str | None = None) -> Project:
    """The project at `path`. Raises ProjectError unless exactly one package fits."""
    root = path.resolve()
    if not root.is_dir():
        raise ProjectError(f"{path}: no such folder")
    found = [describe(root, folder) for folder in sorted(packages(root, 0))]
    names = ", ".join(project.package for project in found)
    if package is not None:
        found = [project for project in found if package in (project.package, project.shown(project.folder))]
        if not found:
            raise ProjectError(
                f"{path}: no package {package} with core/config.py; there are: {names or 'none'}"
            )
    if not found:
        above = (
            "; it is a package itself: give the folder above"
            if (root / "core" / "config.py").is_file()
            else ""
        )
        raise ProjectError(f"{path}: no package in it has core/config.py, as app or src/acme would{above}")
    if len(found) > 1:
        places = ", ".join(project.shown(project.folder) for project in found)
        raise ProjectError(f"{path}: several packages have core/config.py: {places}; choose with --package")
    return found[0]


def packages(folder: Path, depth: int) -> Iterator[Path]:
    """Folders that hold `core/config.py`; what lies below one of them is part of it."""
    if depth and (folder / "core" / "config.py").is_file():
        yield folder
        return
    if depth < DEEPEST:
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.name.startswith(".") and inner.name not in NOT_SEARCHED:
                yield from packages(inner, depth + 1)


def describe(root: Path, folder: Path) -> Project:
    """The project whose package is `folder`: the import root is above the topmost `__init__.py`."""
    import_root = folder.parent
    while import_root != root and (import_root / "__init__.py").is_file():
        import_root = import_root.parent
    return Project(root, import_root, ".".join(folder.relative_to(import_root).parts))

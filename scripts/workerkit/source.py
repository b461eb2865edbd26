"""Python source read as syntax trees; nothing of a project is ever imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from workerkit.errors import ProjectError
from workerkit.files import parsed

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Import:
    """One imported name: `from module import name`, or `import module` when `name` is empty."""

    module: str
    name: str = ""
    alias: str = ""

    @property
    def bound(self) -> str:
        """The name that it binds."""
        return self.alias or self.name or self.module.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """A parsed module; `name` is its dotted name."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree. Raises ProjectError when the file is not valid Python."""
        try:
            return parsed(self.text) or ast.parse(self.text)
        except SyntaxError as error:
            version = ".".join(map(str, sys.version_info[:2]))
            raise ProjectError(
                f"{self.path}:{error.lineno}: not valid Python {version}: {error.msg}; "
                "newer code needs the project's own Python to run this script"
            ) from error

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """All imports in the file, those inside functions included, with absolute module names."""
        return tuple(
            found
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for found in self._imports_of(node)
        )

    def _imports_of(self, node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", alias.asname or "") for alias in node.names)
        else:
            module = self._absolute(node)
            yield from (Import(module, alias.name, alias.asname or "") for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        if self.path.name != "__init__.py":
            parts.pop()
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)

    @cached_property
    def top_level(self) -> dict[str, ast.stmt]:
        """The statements that bind a name at the top level, branches of `if` and `try` included."""
        return dict(bindings(self.tree.body))

    def imported(self, name: str) -> Import | None:
        """The import that binds `name` in this module, or None."""
        return next((found for found in self.imports if found.bound == name), None)


def bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Names that the statements bind, each with its statement."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Assign(targets=targets):
                yield from (
                    (t.id, node) for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)
                )
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((alias.asname or alias.name.partition(".")[0], node) for alias in names)
            case ast.If() | ast.Try():
                yield from bindings([*node.body, *node.orelse])
            case _ if isinstance(alias := getattr(node, "name", None), ast.Name):  # `type X = …` since 3.12
                yield alias.id, node


def read_module(name: str, path: Path) -> Module:
    """Read the module `name` from `path`. Raises ProjectError when it is unreadable."""
    try:
        return Module(name, path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path}: cannot be read: {error}") from error


def find_module(root: Path, name: str) -> Module | None:
    """The module with the dotted `name` below the import root, or None."""
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return read_module(name, path)
    return None

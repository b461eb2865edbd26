"""Where the package of a project is that is not built as the templates expect: it makes a `FastAPI()`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workerkit.files import python_files, tree_of


@dataclass(frozen=True, order=True)
class Root:
    """A package and the folder that has to be on the path. `package` is empty for modules without one."""

    import_root: Path
    package: str

    @property
    def folder(self) -> Path:
        """The folder of the package."""
        return self.import_root.joinpath(*self.package.split(".")) if self.package else self.import_root


def application_roots(root: Path) -> list[Root]:
    """The packages in which a FastAPI application is made; a package below another one is part of it."""
    found = {root_of(root, path) for path in python_files(root) if makes_application(path)}
    whole = {one for one in found if not any(inside(one, other) for other in found)}
    return sorted(whole)


def inside(one: Root, other: Root) -> bool:
    """Whether `one` is a part of `other`."""
    return bool(other.package) and one != other and one.folder.is_relative_to(other.folder)


def makes_application(path: Path) -> bool:
    """Whether `FastAPI(…)` is called in the file."""
    tree = tree_of(path, containing="FastAPI(")
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call)) if tree else ()
    return any(getattr(func, "id", getattr(func, "attr", "")) == "FastAPI" for func in calls)


def root_of(root: Path, path: Path) -> Root:
    """The package of a file, by how it and its neighbours import each other, or else by `__init__.py`."""
    folders = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
    named = top_names(path.parent)
    for folder in reversed(folders):  # the outermost one that somebody imports by its name
        if folder.name in named:
            return Root(folder.parent, folder.name)
    import_root = path.parent
    while import_root != root and (import_root / "__init__.py").is_file():
        import_root = import_root.parent
    parts = path.parent.relative_to(import_root).parts
    if not parts and "" in named and import_root != root:  # relative imports make a package of it
        return Root(import_root.parent, import_root.name)
    return Root(import_root, ".".join(parts))


def top_names(folder: Path) -> set[str]:
    """The first parts of what the modules of a folder import; empty for a relative import."""
    names: set[str] = set()
    for path in sorted(folder.glob("*.py")):
        tree = tree_of(path)
        names |= set(first_parts(tree)) if tree is not None else set()
    return names


def first_parts(tree: ast.Module) -> Iterator[str]:
    """The first parts of what is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield "" if node.level else (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)


def chosen_root(root: Path, given: str) -> Root | None:
    """The package that `--package` names, as a folder or with dots; None when there is no such folder."""
    folder = root / given
    if "." in given and not folder.is_dir():
        folder = root.joinpath(*given.split("."))
    if not folder.is_dir() or not folder.resolve().is_relative_to(root):
        return None
    import_root = folder.parent
    while import_root != root and (import_root / "__init__.py").is_file():
        import_root = import_root.parent
    return Root(import_root, ".".join(folder.relative_to(import_root).parts))

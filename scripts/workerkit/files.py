"""The Python files of a project, read with care: no file is run, and what is strange is left out."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

NOT_SEARCHED = {
    "node_modules",
    "site-packages",
    "build",
    "dist",
    "venv",
    "env",
    "__pycache__",
    "tests",
    "test",
    "docs",
}
LARGEST = 2_000_000
DEEPEST = 12


def python_files(folder: Path, depth: int = 0, top: Path | None = None) -> Iterator[Path]:
    """All Python files below a folder but those of tests and tools. Links out of the project are not
    followed, nor those that lead back up.
    """
    top = top or folder.resolve()
    if depth > DEEPEST:
        return
    for path in entries(folder):
        if path.is_symlink() and not stays_inside(path, top):
            continue
        if path.is_dir():
            hidden = path.name.startswith(".") or (path / "pyvenv.cfg").exists()
            if not hidden and path.name not in NOT_SEARCHED and not leads_up(path):
                yield from python_files(path, depth + 1, top)
        elif path.suffix == ".py":
            yield path


def entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing when it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def stays_inside(path: Path, top: Path) -> bool:
    """Whether a link leads to something in the project."""
    try:
        return path.resolve().is_relative_to(top)
    except (OSError, RuntimeError):
        return False


def leads_up(path: Path) -> bool:
    """Whether a link leads to a folder that it lies in."""
    return path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def tree_of(path: Path, containing: str = "") -> ast.Module | None:
    """The syntax tree of a file; None when it has none, is very large, or lacks the text `containing`."""
    text = text_of_file(path)
    return parsed(text) if text is not None and containing in text else None


def text_of_file(path: Path) -> str | None:
    """The text of a file; None when there is none to read."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


@cache
def parsed(text: str) -> ast.Module | None:
    """The syntax tree, which nobody changes; None for what is not valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escape sequences
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def dotted(path: Path, import_root: Path) -> str:
    """The dotted name of a file's module."""
    parts = path.relative_to(import_root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)

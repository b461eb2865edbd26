"""Writing several files so that either all of them are there afterwards or none is changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from workerkit.errors import WriteError


def write_all(root: Path, files: Mapping[Path, str]) -> None:
    """Write `files` below `root`. Raises WriteError, with everything as it was before."""
    if not files:
        return
    undo: list[tuple[Path, Path | None]] = []
    made: list[Path] = []
    staging: Path | None = None
    try:
        # In the project's own folder: a move within one file system cannot stop halfway.
        staging = Path(tempfile.mkdtemp(prefix=".add-worker-", dir=root))
        staged = {path: stage(staging, number, text) for number, (path, text) in enumerate(files.items())}
        for path, new in staged.items():
            make_folders(path.parent, made)
            old = keep(path, new) if path.exists() else None
            undo.append((path, old))
            os.replace(new, path)  # noqa: PTH105  # Path.replace cannot be made to fail in a test
    except BaseException as error:
        restore(undo, made)
        if isinstance(error, OSError):
            where = error.filename2 or error.filename or root
            raise WriteError(f"{where}: {error.strerror}; nothing was written") from error
        raise
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def stage(folder: Path, number: int, text: str) -> Path:
    """Write a file's text where nobody looks for it."""
    path = folder / f"{number}.new"
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def keep(path: Path, new: Path) -> Path:
    """Keep a copy of what is replaced; the new file takes over its permissions."""
    old = new.with_suffix(".old")
    shutil.copy2(path, old)
    shutil.copymode(path, new)
    return old


def make_folders(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, noting each one that was not there."""
    absent = [f for f in (folder, *folder.parents) if not f.exists()]
    for missing in reversed(absent):
        missing.mkdir()
        made.append(missing)
    if not absent and not folder.is_dir():
        raise NotADirectoryError(20, "is no folder", str(folder))


def restore(undo: list[tuple[Path, Path | None]], made: list[Path]) -> None:
    """Put back what was there."""
    for path, old in reversed(undo):
        with suppress(OSError):
            path.unlink(missing_ok=True) if old is None else os.replace(old, path)  # noqa: PTH105
    for folder in reversed(made):
        with suppress(OSError):
            folder.rmdir()

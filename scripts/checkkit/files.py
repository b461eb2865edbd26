"""The files of a project: found without following links in circles, read whatever their encoding."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from checkkit.errors import UnreadableError

# Tests start what users must not, and migrations and environments hold no workers.
SKIPPED = frozenset(
    {
        "tests", "test", "testing", "node_modules", "site-packages", "dist-packages", "__pycache__", "venv",
        "env", "build", "dist", "migrations", "alembic", "docs",
    }
)  # fmt: skip
NOT_CHECKED = ("test_*.py", "*_test.py", "conftest.py", "*.min.*")
TEXTS = (
    "Dockerfile*", "*.[dD]ockerfile", "Containerfile*", "Procfile*", "*.yml", "*.yaml", "*.sh", "*.service",
    "Makefile", "supervisord*.conf",
)  # fmt: skip
REQUIREMENTS = (
    "requirements*.txt", "requirements*.in", "pyproject.toml", "uv.lock", "poetry.lock", "Pipfile.lock",
)  # fmt: skip
LARGEST = 16 * 1024 * 1024
LARGEST_TEXT = 256 * 1024
CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")


def walk(root: Path, excluded: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file below `root` that may matter, sorted. Links are not followed, so no circle is endless.
    Raises UnreadableError when `root` is not there.
    """
    if root.is_file():
        yield root
        return
    if not root.is_dir():
        raise UnreadableError(f"{root}: no such file or folder")
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UnreadableError(f"{root}: {error.strerror}") from error
    for folder, names, files in os.walk(root):
        here = os.path.relpath(folder, root).replace(os.sep, "/").removeprefix(".").removeprefix("/")
        names[:] = sorted(n for n in names if wanted(n, f"{here}/{n}".lstrip("/"), excluded))
        for name in sorted(files):
            path = Path(folder, name)
            if matches(name) and not path.is_symlink() and not any_match(f"{here}/{name}", name, excluded):
                yield path


def wanted(name: str, path: str, excluded: tuple[str, ...]) -> bool:
    """Whether to look into a folder."""
    hidden = name.startswith(".") and name not in {".github", ".docker"}
    return not (hidden or name in SKIPPED or any_match(path, name, excluded))


def any_match(path: str, name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern names the path or its last part."""
    return any(fnmatch(path.lstrip("/"), p.rstrip("/")) or fnmatch(name, p.rstrip("/")) for p in patterns)


def matches(name: str) -> bool:
    """Whether a file of this name is of use."""
    if name.endswith(".py"):
        return not any(fnmatch(name, pattern) for pattern in NOT_CHECKED)
    return is_text(name) or is_requirements(name)


def is_text(name: str) -> bool:
    """Whether it says how processes are started."""
    return any(fnmatch(name, pattern) for pattern in TEXTS)


def is_requirements(name: str) -> bool:
    """Whether it says which versions are used."""
    return any(fnmatch(name, pattern) for pattern in REQUIREMENTS)


def read_bytes(path: Path) -> bytes:
    """A Python file. Raises OSError, or ValueError when it is too large."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST // 1024 // 1024} MB")
    return path.read_bytes()


def read(path: Path, data: bytes = b"") -> str:
    """The text of a Python file, of which `data` was read before. Raises OSError, or ValueError when it is
    too large or cannot be decoded.
    """
    data = data or read_bytes(path)
    if data.startswith(codecs.BOM_UTF8):
        return data[3:].decode("utf-8")
    encoding = "utf-8"
    for line in data.split(b"\n", 2)[:2]:
        if found := CODING.match(line):
            encoding = found[1].decode("ascii", "replace")
            break
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise ValueError(f"unknown encoding {encoding}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"not {encoding}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path) -> str:
    """The start of another file, whatever is in it; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""

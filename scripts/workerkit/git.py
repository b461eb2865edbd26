"""What Git knows of a project: versions of a file, and which files have changes that nobody committed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

SECONDS = 60


def git(root: Path, *arguments: str) -> str | None:
    """The output of a command of Git; None without Git, without a repository or with an error."""
    # A file monitor is a program that the repository's settings name: none of a project is run.
    command = ["git", "-c", "core.fsmonitor=false", "--literal-pathspecs", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        return done.stdout.decode("utf-8")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def uncommitted(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Those of the files below `root` that have changes, or are not in the repository at all."""
    found = []
    for path in paths:
        status = git(root, "status", "--porcelain", "--", str(path.relative_to(root)))
        found += [path] if status else []
    return found


def versions(root: Path, path: Path) -> Iterator[str]:
    """The committed texts of a file, the latest first."""
    name = str(path.relative_to(root))
    log = git(root, "log", "--format=", "--raw", "--no-abbrev", "--no-renames", "--", name) or ""
    # ":100644 100644 OLD NEW M<tab>path"; a file that was deleted has zeros
    blobs = dict.fromkeys(line.split()[3] for line in log.splitlines() if line.startswith(":"))
    for blob in blobs:
        text = git(root, "cat-file", "blob", blob) if blob.strip("0") else None
        if text is not None:
            yield text.replace("\r\n", "\n")

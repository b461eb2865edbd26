"""The Procfile of a project: what the platform runs."""

from __future__ import annotations

import re
from pathlib import Path

RELEASE, WEB = "release", "web"


def read(project: Path) -> dict[str, str]:
    """Names and command lines, in order; comments are left out. ValueError for another line."""
    lines: dict[str, str] = {}
    for number, line in enumerate((project / "Procfile").read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w-]+):\s*(\S.*)", line)
        if match is None:
            raise ValueError(f"Procfile, line {number}: NAME: COMMAND is needed, not {line!r}")
        lines[match[1]] = match[2]
    return lines

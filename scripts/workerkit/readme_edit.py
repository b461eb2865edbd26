"""The section of a project's README.md that says how its workers run and are proven."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from workerkit.project import Project
from workerkit.requirement_edit import plain_text

TITLE = "## Background workers"
SECTION = re.compile(rf"^{TITLE}\n.*?(?=^#{{1,2}} |\Z)", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"- `\w+`: run `[^`]+`( and `[^`]+`)*, prove `[^`]+`")


def line(name: str, commands: Iterable[str], prove: str) -> str:
    """What the section says of a worker, which takes all of the `commands`."""
    run = " and ".join(f"`{command}`" for command in commands)
    return f"- `{name}`: run {run}, prove `{prove}`"


def opening(project: Project) -> str:
    """What the section says of all of them."""
    settings = project.shown(project.folder / "core" / "worker_settings.py")
    return (
        "Each one is a process beside the API, and its tests prove it with real servers and faults. The "
        f"settings are environment variables; `{settings}` lists them with their defaults."
    )


def add_section(project: Project, texts: dict[Path, str], added: str) -> str:
    """Put the README with a worker's line into `texts`. A section that somebody has edited stays as it is:
    what is left to be done then, empty for nothing.
    """
    path = project.root / "README.md"
    text = plain_text(path) if path.is_file() else ""
    if text is None:
        return f"in {project.shown(path)}: {added}"
    if not text or added in text:
        return ""
    found = SECTION.search(text)
    if found is None:
        texts[path] = f"{text.rstrip()}\n\n{TITLE}\n\n{opening(project)}\n\n{added}\n"
        return ""
    lines = [one for one in found[0].splitlines()[1:] if one]
    if lines[:1] != [opening(project)] or not all(map(LINE.fullmatch, lines[1:])):
        return f"in {project.shown(path)}, {TITLE.removeprefix('## ')}: {added}"
    kept = found[0].rstrip()
    texts[path] = text[: found.start()] + f"{kept}\n{added}" + text[found.start() + len(kept) :]
    return ""

"""Adding processes to the lists that a project has: its Procfile, its compose file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from workerkit.compose_edit import with_services
from workerkit.files import text_of_file
from workerkit.look_around import processes_of


def editable(path: Path) -> str | None:
    """The text of a file that can be written back as it is; None for one that cannot."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\r" in text or text.startswith("\ufeff") or path.is_symlink() else text


def add_processes(root: Path, texts: dict[Path, str], processes: Mapping[str, str], todo: list[str]) -> None:
    """Append the processes to the Procfile and to the compose file."""
    path = root / "Procfile"
    text = editable(path)
    if text is not None:
        names = {line.partition(":")[0].strip() for line in text.splitlines()}
        lines = [f"{name}: {in_shell(command)}\n" for name, command in processes.items() if name not in names]
        if lines:
            texts[path] = text + ("" if text.endswith("\n") or not text else "\n") + "".join(lines)
    add_services(root, texts, processes, todo)


def add_services(root: Path, texts: dict[Path, str], processes: Mapping[str, str], todo: list[str]) -> None:
    """Append services to the compose file; say what one needs that cannot be edited for certain."""
    files = {name: found for name, found in processes_of(root).items() if "compose" in Path(name).name}
    for name, services in files.items():
        wanted = {process.replace("_", "-"): command for process, command in processes.items()}
        missing = {process: command for process, command in wanted.items() if process not in services}
        if services and missing:
            path = root / name
            text = editable(path) if len(files) == 1 else None
            edited = with_services(text, missing, partial(beside, root, path)) if text is not None else None
            if edited is not None:
                texts[path] = edited
                continue
            like = next((s for s in services if s in ("api", "app", "web", "backend")), services[0])
            lines_of = "; ".join(f"`{process}` with command: {c}" for process, c in missing.items())
            todo.append(
                f"in {name}, services like `{like}` (same image and environment, no ports): {lines_of}"
            )


def beside(root: Path, path: Path, name: str) -> str | None:
    """The text of a file that another one names; None when it is not in the project."""
    found = (path.parent / name).resolve()
    return text_of_file(found) if found.is_relative_to(root) else None


def in_shell(command: str) -> str:
    """A command for a list of processes that a shell runs: SIGTERM has to reach the worker, not the shell."""
    return f"exec {command}"

"""What stands around a project's code: processes, dependencies, logging, workers of any engine, tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workerkit.files import entries
from workerkit.look import Code

ENGINES = {
    "celery": "Celery",
    "arq": "ARQ",
    "rq": "RQ",
    "dramatiq": "Dramatiq",
    "taskiq": "Taskiq",
    "saq": "SAQ",
    "huey": "Huey",
    "procrastinate": "Procrastinate",
    "apscheduler": "APScheduler",
    "faststream": "FastStream",
    "aio_pika": "aio-pika",
    "pika": "pika",
    "aiokafka": "aiokafka",
    "fastapi_utils": "fastapi-utils",
}
LOGGING = {"structlog": "structlog", "loguru": "loguru", "logging.config": "logging.config"}
COMPOSE = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
COMMAND = re.compile(r"\b(uvicorn|gunicorn|fastapi (run|dev)|celery|arq|python -m)\b")


@dataclass(frozen=True)
class Around:
    """Files and names, all relative to the project."""

    processes: dict[str, list[str]] = field(default_factory=dict)
    dependencies: list[str] = field(default_factory=list)
    logging: list[str] = field(default_factory=list)
    workers: dict[str, list[str]] = field(default_factory=dict)
    tests: dict[str, Any] = field(default_factory=dict)


def look_around(root: Path, codes: Iterable[Code], tests: Path, pyproject: dict[str, Any]) -> Around:
    """What stands around the code."""
    codes = list(codes)
    return Around(
        processes_of(root),
        dependency_files(root, pyproject),
        logging_of(codes),
        workers_of(root, codes),
        tests_of(root, tests, pyproject),
    )


def processes_of(root: Path) -> dict[str, list[str]]:
    """The lists of processes, each with the processes' names."""
    found: dict[str, list[str]] = {}
    for folder in (root, *(path for path in entries(root) if path.is_dir() and path.name == "backend")):
        for path in entries(folder):
            name = path.relative_to(root).as_posix()
            if path.name == "Procfile":
                found[name] = re.findall(r"^([\w-]+):", text(path), re.MULTILINE)
            elif path.name in COMPOSE:
                found[name] = services(text(path))
            elif path.name == "Makefile" and COMMAND.search(text(path)):
                found[name] = [
                    target
                    for target, recipe in re.findall(
                        r"^([\w-]+):[^\n]*\n((?:\t[^\n]*\n?)+)", text(path), re.MULTILINE
                    )
                    if COMMAND.search(recipe)
                ]
    for path in sorted(root.glob("deploy/**/*.service")) + sorted(root.glob("*.service")):
        found[path.relative_to(root).as_posix()] = [path.stem]
    return found


def services(compose: str) -> list[str]:
    """The services of a compose file, by their indentation."""
    found, inside, width = [], False, 0
    for line in compose.splitlines():
        if re.match(r"services:\s*(#.*)?$", line):
            inside, width = True, 0
        elif re.match(r"\S", line) and not line.startswith("#"):
            inside = False
        elif inside and (match := re.match(r"( +)([\w.-]+):\s*(#.*)?$", line)):
            width = width or len(match[1])
            if len(match[1]) == width:
                found.append(match[2])
    return found


def dependency_files(root: Path, pyproject: dict[str, Any]) -> list[str]:
    """The files that name what the project depends on, each with its style."""
    found = []
    if "project" in pyproject and "dependencies" in pyproject["project"]:
        found.append("pyproject.toml (PEP 621)")
    if "dependencies" in pyproject.get("tool", {}).get("poetry", {}):
        found.append("pyproject.toml (Poetry)")
    names = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile", "setup.py", "setup.cfg", "environment.yml")
    found += [name for name in names if (root / name).is_file()]
    for pattern in ("requirements*.txt", "requirements*.in", "requirements/*.txt", "requirements/*.in"):
        found += [path.relative_to(root).as_posix() for path in sorted(root.glob(pattern))]
    return found


def logging_of(codes: Iterable[Code]) -> list[str]:
    """The ways in which the project sets up its logging, with places."""
    found: list[str] = []
    for code in codes:
        names = imported(code) & LOGGING.keys()
        found += [f"{LOGGING[name]} ({code.module})" for name in sorted(names)]
        for node in code.nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.basicConfig":
                found.append(f"logging.basicConfig ({code.module}:{node.lineno})")
    return found


def workers_of(root: Path, codes: Iterable[Code]) -> dict[str, list[str]]:
    """The engines of background work that modules use, with the files."""
    found: dict[str, list[str]] = {}
    for code in codes:
        place = code.path.relative_to(root).as_posix()
        for top in sorted({name.partition(".")[0] for name in imported(code)} & ENGINES.keys()):
            found.setdefault(ENGINES[top], []).append(place)
        used = {node.id for node in code.nodes if isinstance(node, ast.Name)}
        if "BackgroundTasks" in used:
            found.setdefault("BackgroundTasks", []).append(place)
    return found


def imported(code: Code) -> set[str]:
    """The modules that a module imports."""
    names: set[str] = set()
    for node in code.nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return names


def tests_of(root: Path, folder: Path, pyproject: dict[str, Any]) -> dict[str, Any]:
    """Where the project's tests are and how they run."""
    options = pyproject.get("tool", {}).get("pytest", {}).get("ini_options", {})
    files = sorted(folder.rglob("test_*.py")) + sorted(folder.rglob("*_test.py")) if folder.is_dir() else []
    return {
        "folder": folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder),
        "exists": folder.is_dir(),
        "files": len(files),
        "conftest": sorted(p.relative_to(root).as_posix() for p in folder.rglob("conftest.py"))
        if folder.is_dir()
        else [],
        "asyncio_mode": options.get("asyncio_mode"),
    }


def text(path: Path) -> str:
    """The text of a small file; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

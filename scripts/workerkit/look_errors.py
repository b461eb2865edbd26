"""A project's own error classes, and what their names suggest about trying again."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

from workerkit.look import Code, Place, last_name

BUILTIN = {
    "Exception",
    "RuntimeError",
    "ValueError",
    "LookupError",
    "KeyError",
    "PermissionError",
    "HTTPException",
    "OSError",
    "ConnectionError",
    "TimeoutError",
}
# Only suggestions: what an error means is for the project to say.
MEANINGS = {
    "not found": re.compile("NotFound|DoesNotExist|Missing|NoSuch|Unknown"),
    "transient": re.compile(
        "Timeout|TimedOut|Unavailable|Temporar|Transient|RateLimit|TooMany|Throttl|Upstream|Busy|Retry|Overload"
    ),
    "permanent": re.compile(
        "Invalid|Validation|Conflict|Duplicate|Exists|Forbidden|Denied|Unauthor|Permission|Declin|Refus|Illegal"
    ),
}


@dataclass(frozen=True)
class ErrorClass:
    """An error class, and what its name or that of a base suggests; empty when nothing does."""

    place: Place
    bases: tuple[str, ...]
    meaning: str = ""


def look_at_errors(codes: Iterable[Code]) -> list[ErrorClass]:
    """The error classes in the modules, by name."""
    classes: dict[str, tuple[Place, tuple[str, ...]]] = {}
    for code in codes:
        for node in code.body:
            if isinstance(node, ast.ClassDef):
                place = Place(code.module, node.name, code.path, node.lineno)
                classes.setdefault(node.name, (place, tuple(last_name(base) for base in node.bases)))
    found = []
    for name, (place, bases) in sorted(classes.items()):
        line = ancestors(name, {n: b for n, (_, b) in classes.items()})
        if line & BUILTIN:
            found.append(ErrorClass(place, bases, meaning_of([name, *bases])))
    return found


def ancestors(name: str, classes: dict[str, tuple[str, ...]]) -> set[str]:
    """All base classes of a class, as far as they are known."""
    seen: set[str] = set()
    waiting = list(classes.get(name, ()))
    while waiting:
        base = waiting.pop()
        if base not in seen:
            seen.add(base)
            waiting += classes.get(base, ())
    return seen


def meaning_of(names: Iterable[str]) -> str:
    """What the first telling name suggests."""
    for name in names:
        for meaning, pattern in MEANINGS.items():
            if pattern.search(name):
                return meaning
    return ""

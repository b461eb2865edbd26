"""Rules: their texts from `texts/*.toml`, the functions that look for them, and what these find."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from checkkit.look import Look
from checkkit.notes import Note, TextFile
from checkkit.project import Project

SEVERITIES = ("error", "warning", "hint")
GROUPS = (
    "check",
    "cron",
    "celery",
    "bridge",
    "rabbitmq",
    "streams",
    "consumers",
    "outbox",
    "llm",
    "lifecycle",
    "security",
)


@dataclass(frozen=True)
class Rule:
    """A rule as people read it. `bad` and `good` are programs that the tests run the checker on."""

    id: str
    group: str
    severity: str
    title: str
    why: str
    fix: str
    link: str
    versions: str
    bad: str
    good: str


@dataclass(frozen=True, order=True)
class Found:
    """A finding. `source` is its line."""

    path: str
    line: int
    column: int
    rule: str
    message: str
    source: str


Place = ast.AST | Note
Places = Iterator[Place | tuple[Place, str]]


@dataclass(frozen=True)
class ModuleRule:
    """A rule about one module. Without a call of one of the names in `called` it finds nothing."""

    find: Callable[[Look], Places]
    called: tuple[str, ...]


IN_MODULE: dict[str, ModuleRule] = {}
IN_PROJECT: dict[str, Callable[[Project], Places]] = {}
IN_TEXT: dict[str, Callable[[TextFile, Project], Iterator[int]]] = {}


def in_module(id_: str, *called: str) -> Callable[[Callable[[Look], Places]], Callable[[Look], Places]]:
    """A rule about one module; what it calls is known from all of them. See ModuleRule for `called`."""

    def add(function: Callable[[Look], Places]) -> Callable[[Look], Places]:
        IN_MODULE[id_] = ModuleRule(function, called)
        return function

    return add


def in_project(id_: str) -> Callable[[Callable[[Project], Places]], Callable[[Project], Places]]:
    """A rule about the whole: it sees the notes that rules about modules took."""

    def add(function: Callable[[Project], Places]) -> Callable[[Project], Places]:
        IN_PROJECT[id_] = function
        return function

    return add


TextRule = Callable[[TextFile, Project], Iterator[int]]


def in_text(id_: str) -> Callable[[TextRule], TextRule]:
    """A rule about a file that starts processes; it gives line numbers."""

    def add(function: TextRule) -> TextRule:
        IN_TEXT[id_] = function
        return function

    return add


@cache
def rules() -> dict[str, Rule]:
    """Every rule by its id, in the order of the groups."""
    found = {}
    for group in GROUPS:
        path = Path(__file__).parent / "texts" / f"{group}.toml"
        for id_, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            texts = {
                name: str(entry.get(name, "")) for name in Rule.__annotations__ if name not in {"id", "group"}
            }
            found[id_] = Rule(id=id_, group=group, **texts)
    return found

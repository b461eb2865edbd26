"""The skill's templates: which files a kind of worker needs, and how they read in another package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from workerkit.errors import TemplateError
from workerkit.source import Module, find_module

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
PACKAGE = "app"
LAYERS = "api|consumers|core|jobs|llm|models|repositories|schemas|services|tasks|workers"
IN_PACKAGE = re.compile(rf"(?<![\w./]){PACKAGE}(?=\.(?:{LAYERS})\b)")


def template(name: str) -> Module:
    """The template of the module `name`. Raises TemplateError."""
    found = _find(name)
    if found is None:
        raise TemplateError(f"{TEMPLATES}: no template of {name}; the skill is incomplete, install it again")
    return found


def text_of(path: str) -> str:
    """The text of a template that is no module of the package. Raises TemplateError."""
    try:
        return (TEMPLATES / path).read_text(encoding="utf-8")
    except OSError as error:
        raise TemplateError(f"{TEMPLATES / path}: {error.strerror}; install the skill again") from error


@cache
def _find(name: str) -> Module | None:
    return find_module(TEMPLATES, name)


def closure(roots: Iterable[Module]) -> dict[str, Module]:
    """The templates `roots` and all that they import, in the order of their names."""
    found: dict[str, Module] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module.name not in found:
            found[module.name] = module
            used = {name for name, _ in uses(module)} - found.keys()
            waiting += [template(name) for name in used if _find(name) is not None]
    return dict(sorted(found.items()))


def uses(module: Module) -> Iterator[tuple[str, str]]:
    """What a template imports from the package: a module and a name in it, empty for the module itself."""
    for import_ in module.imports:
        if import_.module == PACKAGE or import_.module.startswith(f"{PACKAGE}."):
            inner = f"{import_.module}.{import_.name}"
            yield (inner, "") if _find(inner) is not None else (import_.module, import_.name)


def needs(modules: Iterable[Module]) -> dict[str, set[str]]:
    """For each module that `modules` import, the names that must be in it."""
    wanted: dict[str, set[str]] = {}
    for module in modules:
        for used, name in uses(module):
            wanted.setdefault(used, set()).update({name} - {""})
    return wanted


def libraries(modules: Iterable[Module]) -> set[str]:
    """Top-level names of everything that `modules` import."""
    return {import_.module.partition(".")[0] for module in modules for import_ in module.imports}


def reworded(module: Module, words: Mapping[str, str], name: str) -> Module:
    """A template that lands as the module `name`, with `words` replaced."""
    return replace(module, name=name, text=replaced(module.text, words))


def replaced(text: str, words: Mapping[str, str]) -> str:
    """The text with each word replaced, the longer ones first, in one pass."""
    if not words:
        return text
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(pattern, lambda match: words[match[0]], text)


def rewritten(text: str, package: str) -> str:
    """A template's text as it reads in `package`: in imports, commands, strings and comments alike."""
    return IN_PACKAGE.sub(package, text)


def renamed(name: str, package: str) -> str:
    """The dotted name of a template's module as it is in `package`."""
    return package + name.removeprefix(PACKAGE)

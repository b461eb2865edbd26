"""The import block of a generated module, as an import sorter would leave it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby

from workerkit.source import Import

WIDTH = 110


def wrapped(text: str, width: int) -> str:
    """A module's text with one line for each name of the imports that are too long, as sorters want it."""
    return "".join(
        wrapped_line(line, width) if len(line.rstrip("\n")) > width else line
        for line in text.splitlines(keepends=True)
    )


def wrapped_line(line: str, width: int) -> str:
    """A line, if it is an import with several lines instead."""
    match = re.fullmatch(r"( *)from (\S+) import ([\w, ]+)\n", line)
    if match is None:
        return line
    indent, module, names = match.groups()
    statement = from_statement(module, names.split(", "), width - len(indent))
    return "".join(f"{indent}{part}\n" for part in statement.splitlines())


def block(imports: Iterable[Import], package: str, local: Iterable[str] = ()) -> str:
    """Import statements for `imports`, grouped and sorted; the last line ends without a newline. `local` are
    other top-level names of the project itself.
    """
    first_party = {package.partition(".")[0], *local}
    ordered = sorted(set(imports), key=lambda import_: (section(import_, first_party), *order(import_)))
    groups = groupby(ordered, key=lambda import_: section(import_, first_party))
    return "\n\n".join("\n".join(statements(group)) for _, group in groups)


def section(import_: Import, first_party: set[str]) -> int:
    """The future, the standard library, what is installed, and the project itself."""
    top = import_.module.partition(".")[0]
    if top == "__future__":
        return 0
    if top in first_party:
        return 3
    return 1 if top in sys.stdlib_module_names else 2


def order(import_: Import) -> tuple[bool, str, int, str]:
    """Plain imports first, then by module; in a module constants, classes, functions."""
    name = import_.name
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return bool(name), import_.module.lower(), kind, name


def statements(imports: Iterable[Import]) -> Iterator[str]:
    """One statement for each module."""
    for (is_from, module), group in groupby(imports, key=lambda i: (bool(i.name), i.module)):
        suffixed = [(i.name or i.module) + (f" as {i.alias}" if i.alias else "") for i in group]
        if is_from:
            yield from_statement(module, suffixed)
        else:
            yield from (f"import {name}" for name in suffixed)


def from_statement(module: str, names: list[str], width: int = WIDTH) -> str:
    """One line, or one line for each name when that would be too long."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= width:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])

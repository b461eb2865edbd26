"""The first reading: every file once, what other files need to know of it, and whether to look again."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from checkkit import files
from checkkit.facts import facts
from checkkit.interest import is_interesting
from checkkit.notes import MENTIONS, TextFile
from checkkit.project import Project
from checkkit.rule import Found
from checkkit.syntax import Module

# Begins with a plain character, which is quicker to find than the start of a line.
IMPORT = re.compile(rb"\n[ \t]*(?:from|import)[ \t]+([A-Za-z_][A-Za-z0-9_]*)")
BARE_EXCEPT = re.compile(r"^([ \t]*except\*?[ \t]+)([\w.]+(?:[ \t]*,[ \t]*[\w.]+)+)[ \t]*:", re.MULTILINE)
# Nodes of the trees that are kept between the two readings, at about 270 bytes of memory each.
KEEP = 500_000
# Bytes of files that are kept from the look for imports to the parser.
HOLD = 16_000_000


@dataclass
class Report:
    """What was found, in how many files and lines; `newer` files need a newer Python than this to be read."""

    found: list[Found] = field(default_factory=list)
    files: int = 0
    lines: int = 0
    newer: int = 0


@dataclass
class Reader:
    """The first reading."""

    root: Path
    project: Project = field(default_factory=Project)
    again: list[tuple[Path, Module | None]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    kept: int = 0
    imported: set[str] = field(default_factory=set)
    data: dict[Path, bytes] = field(default_factory=dict)
    held: int = 0

    def read(self, paths: Iterator[Path]) -> None:
        """Take in every file."""
        every = list(paths)
        for path in every:
            if path.suffix == ".py":
                self._imports(path)
        for path in every:
            self.report.files += 1
            if path.suffix == ".py":
                self._python(path)
            elif files.is_requirements(path.name):
                self.project.versions.add_file(path.name, files.read_text(path))
            else:
                text = files.read_text(path)
                self.project.texts.append(TextFile(self.shown(path), text))
                self._mentions(text)
        self.project.celery.finish()

    def _imports(self, path: Path) -> None:
        """Note the top-level names that a file imports, without parsing it, and keep what is not too much."""
        try:
            data = files.read_bytes(path)
        except (OSError, ValueError):
            return
        self.imported.update(name.decode("ascii") for name in set(IMPORT.findall(b"\n" + data)))
        if self.held + len(data) < HOLD:
            self.held += len(data)
            self.data[path] = data

    def shown(self, path: Path) -> str:
        """The path as it is printed."""
        return path.relative_to(self.root).as_posix() if path != self.root else path.name

    def _python(self, path: Path) -> None:
        module = self.module(path)
        if module is None:
            return
        self.report.lines += module.text.count("\n") + 1
        try:
            known = facts(module)
            if "elery" in module.text:
                self.project.celery.read(module)
        except RecursionError:
            self.report.found.append(Found(module.shown, 1, 1, "CHK01", "nested too deeply", ""))
            return
        self.project.modules[module.name] = known
        self.project.called.update(module.by_name)
        self._mentions(module.text)
        if is_interesting(module, known):
            keep = self.kept + len(module.parents) < KEEP
            self.kept += len(module.parents) if keep else 0
            self.again.append((path, module if keep else None))

    def _mentions(self, text: str) -> None:
        known = self.project.mentioned
        known.update([word for word in MENTIONS if word not in known and word in text])

    def module(self, path: Path, *, again: bool = False) -> Module | None:
        """A parsed module; what cannot be parsed is one finding."""
        shown = self.shown(path)
        try:
            text = files.read(path, self.data.pop(path, b""))
            tree = parsed(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
            if not again:
                line = getattr(error, "lineno", 1) or 1
                message = getattr(error, "msg", "") or str(error) or type(error).__name__
                self.report.found.append(Found(shown, line, 1, "CHK01", message, ""))
            return None
        return Module(
            dotted_name(shown, self.imported), shown, text, tree, package=path.name == "__init__.py"
        )


def parsed(text: str) -> ast.Module:
    """The tree; `except A, B:`, which Python has since 3.14, is read by older ones too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in a string of somebody's is not ours to tell
        try:
            return ast.parse(text)
        except SyntaxError as error:
            if "parenthesized" not in (error.msg or ""):
                raise
        return ast.parse(BARE_EXCEPT.sub(r"\1(\2):", text))


def dotted_name(shown: str, imported: set[str]) -> str:
    """How a module is imported: from the first folder that the project's imports name."""
    parts = shown.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    start = next((index for index, part in enumerate(parts) if part in imported), 0)
    return ".".join(parts[start:])

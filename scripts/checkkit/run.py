"""Reads a project twice: first what there is, then what is wrong with it. No module of it is ever run."""

from __future__ import annotations

import ast
import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from checkkit import files
from checkkit.interest import idle_in
from checkkit.look import Look, line_of
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.reader import Reader, Report
from checkkit.rule import IN_MODULE, IN_PROJECT, IN_TEXT, Found, Place, Places
from checkkit.suppress import without_accepted
from checkkit.syntax import Module

# Each of them puts its rules into the tables of `rule.py` when it is imported.
for path in sorted(Path(__file__).parent.glob("rules_*.py")):
    importlib.import_module(f"checkkit.{path.stem}")


def check(root: Path, excluded: tuple[str, ...] = ()) -> Report:
    """Everything that is wrong below `root`. Raises UnreadableError."""
    # Trees hold no circles, and looking for some in millions of nodes takes as long as parsing them.
    collects = gc.isenabled()
    gc.disable()
    try:
        return checked(root, excluded)
    finally:
        if collects:
            gc.enable()


def checked(root: Path, excluded: tuple[str, ...]) -> Report:
    """The two readings, one after the other."""
    reader = Reader(root)
    reader.read(files.walk(root, excluded))
    project, report = reader.project, reader.report
    texts = {one.shown: one.text for one in project.texts}
    for path, kept in reader.again:
        module = kept or reader.module(path, again=True)
        if module is not None:
            report.found += without_accepted(in_module(module, project), module.shown, module.text)
    reader.again.clear()
    later = [*in_project(project), *in_texts(project)]
    for shown in sorted({one.path for one in later}):
        text = texts.get(shown) or text_again(root, shown)
        here = [with_source(one, text) for one in later if one.path == shown]
        report.found += [one for one in without_accepted(here, shown, text) if one.rule != "CHK02"]
    if project.versions.at_least("python", f"{sys.version_info[0]}.{sys.version_info[1] + 1}"):
        report.newer = sum(one.rule == "CHK01" for one in report.found)
        report.found = [one for one in report.found if one.rule != "CHK01"]
    report.found = sorted(set(report.found))
    return report


def text_again(root: Path, shown: str) -> str:
    """The text of a file that was read before."""
    try:
        return files.read(root / shown if root.is_dir() else root)
    except (OSError, ValueError):
        return ""


def in_module(module: Module, project: Project) -> Iterator[Found]:
    """What the rules about modules find."""
    look = Look(module, project)
    idle, called = idle_in(module), module.by_name.keys()
    for id_, rule in IN_MODULE.items():
        if rule.find.__module__ in idle or (rule.called and called.isdisjoint(rule.called)):
            continue
        for place in without_depth(rule.find(look)):
            node, message = unpacked(place)
            assert isinstance(node, ast.AST)
            line = line_of(node)
            source = module.lines[line - 1].strip()[:200] if line <= len(module.lines) else ""
            yield Found(module.shown, line, getattr(node, "col_offset", 0) + 1, id_, message, source)


def without_depth(places: Places) -> Places:
    """What a rule finds, up to an expression that is nested too deeply for it."""
    try:
        yield from places
    except RecursionError:
        return


def in_project(project: Project) -> Iterator[Found]:
    """What the rules about the whole project find."""
    for id_, rule in IN_PROJECT.items():
        for place in without_depth(rule(project)):
            note, message = unpacked(place)
            assert isinstance(note, Note)
            yield Found(note.path, note.line, note.column, id_, message, "")


def in_texts(project: Project) -> Iterator[Found]:
    """What the rules about start files find."""
    for file in project.texts:
        for id_, rule in IN_TEXT.items():
            for line in rule(file, project):
                yield Found(file.shown, line, 1, id_, "", "")


def unpacked(place: Place | tuple[Place, str]) -> tuple[Place, str]:
    """A place and the message, which may be missing."""
    return place if isinstance(place, tuple) else (place, "")


def with_source(found: Found, text: str) -> Found:
    """The finding with its source line."""
    lines = text.split("\n")
    source = lines[found.line - 1].strip()[:200] if found.line <= len(lines) else ""
    return Found(found.path, found.line, found.column, found.rule, found.message, source)

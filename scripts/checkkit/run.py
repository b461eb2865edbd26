"""Reads a project twice: first what there is, then what is wrong with it. No module of it is ever run."""

from __future__ import annotations

import ast
import contextlib
import gc
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from checkkit import (
    files,
    rules_bridge,
    rules_celery,
    rules_config,
    rules_consumers,
    rules_cron,
    rules_fastapi,
    rules_lifecycle,
    rules_llm,
    rules_outbox,
    rules_rabbit,
    rules_security,
    rules_streams,
)
from checkkit.facts import facts
from checkkit.look import Look, line_of
from checkkit.project import MENTIONS, Note, Project, TextFile
from checkkit.rule import IN_MODULE, IN_PROJECT, IN_TEXT, Found, Place, Places
from checkkit.suppress import without_accepted
from checkkit.syntax import Module

# Each of them puts its rules into the tables of `rule.py` when it is imported.
LOADED = (
    rules_bridge,
    rules_celery,
    rules_config,
    rules_consumers,
    rules_cron,
    rules_fastapi,
    rules_lifecycle,
    rules_llm,
    rules_outbox,
    rules_rabbit,
    rules_security,
    rules_streams,
)
# Without one of these words no rule can find anything in a module.
# Plain texts: a pattern with as many alternatives takes ten times as long.
WORDS = [
    "celery",
    "shared_task",
    ".task",
    "apply_async",
    ".delay(",
    "crontab",
    "apscheduler",
    "asynccontextmanager",
    "on_event",
    "create_task",
    "ensure_future",
    "gather(",
    "TaskGroup",
    "sessionmaker",
    "BaseException",
    "except:",
    "CancelledError",
    "pika",
    "xread",
    "xadd",
    "xgroup",
    "blpop",
    "brpop",
    ".lock(",
    ".ack(",
    "xack",
    "_ack(",
    ".process(",
    "tenacity",
    "backoff",
    "seen",
    "Seen",
    "processed",
    "handled",
    "dedup",
    "Dedup",
    "dempot",
    "nx=True",
    ".begin(",
    "utbox",
    "advisory",
    "add_task",
    "add_event_handler",
    "openai",
    "anthropic",
    "hmac",
    "ebhook",
    "asyncio.run",
    "uvloop",
    "extra=",
    "health",
    "ready",
    "readi",
    "pickle",
    "dill",
    "guest:guest",
    "BaseSettings",
    "verify=False",
    "worker:",
    "SoftTimeLimit",
]
# And these, in lower case, where something is logged.
SECRETS = [
    "password",
    "passwd",
    "secret",
    "apikey",
    "api_key",
    "access_token",
    "refresh_token",
    "private_key",
    "dsn",
    "database_url",
    "broker_url",
    "redis_url",
    "rabbitmq_url",
    "amqp_url",
]
# Without one of these the rules of a group have nothing to look at.
NEEDS = {
    "checkkit.rules_rabbit": ("pika",),
    "checkkit.rules_llm": ("openai", "anthropic", "hmac", "ebhook", "verify", "construct_event"),
    "checkkit.rules_cron": (
        "scheduler",
        "crontab",
        "eta=",
        "lifespan",
        "asynccontextmanager",
        "on_event",
        "Trigger",
    ),
    "checkkit.rules_streams": ("redis", "xread", "xadd", "xgroup"),
}
IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)
BARE_EXCEPT = re.compile(r"^([ \t]*except\*?[ \t]+)([\w.]+(?:[ \t]*,[ \t]*[\w.]+)+)[ \t]*:", re.MULTILINE)
# Source text whose trees are kept between the two readings, in characters: about 25 bytes of memory for each.
KEEP = 8_000_000


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

    def read(self, paths: Iterator[Path]) -> None:
        """Take in every file."""
        every = list(paths)
        for path in every:
            if path.suffix == ".py":
                self.imported.update(imported_names(path))
        for path in every:
            self.report.files += 1
            if path.suffix == ".py":
                self._python(path)
            elif files.is_requirements(path.name):
                self.project.versions.add_file(path.name, files.read_text(path))
            else:
                text = files.read_text(path)
                self.project.texts.append(TextFile(self.shown(path), text))
                self.project.mentioned.update(word for word in MENTIONS if word in text)
        self.project.celery.finish()

    def shown(self, path: Path) -> str:
        """The path as it is printed."""
        return path.relative_to(self.root).as_posix() if path != self.root else path.name

    def _python(self, path: Path) -> None:
        module = self.module(path)
        if module is None:
            return
        self.report.lines += module.text.count("\n") + 1
        try:
            self.project.modules[module.name] = facts(module)
        except RecursionError:
            self.report.found.append(Found(module.shown, 1, 1, "CHK01", "nested too deeply", ""))
            return
        self.project.called.update(module.by_name)
        self.project.mentioned.update(word for word in MENTIONS if word in module.text)
        if "elery" in module.text:
            self.project.celery.read(module)
        if is_interesting(module.text):
            keep = self.kept + len(module.text) < KEEP
            self.kept += len(module.text) if keep else 0
            self.again.append((path, module if keep else None))

    def module(self, path: Path, *, again: bool = False) -> Module | None:
        """A parsed module; what cannot be parsed is one finding."""
        shown = self.shown(path)
        try:
            text = files.read(path)
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


def is_interesting(text: str) -> bool:
    """Whether a rule about modules may find something in it."""
    if any(word in text for word in WORDS) or "in str(" in text or "in repr(" in text:
        return True
    if text.count(".keys(") > text.count(".keys()") or ("yield" in text and "ession" in text):
        return True
    lower = text.lower() if "log" in text else ""
    return any(word in lower for word in SECRETS)


def imported_names(path: Path) -> set[str]:
    """The top-level names that a file imports, read without parsing it."""
    try:
        data = path.read_bytes() if path.stat().st_size <= files.LARGEST else b""
    except OSError:
        return set()
    return {name.decode("ascii") for name in IMPORT.findall(data)}


def dotted_name(shown: str, imported: set[str]) -> str:
    """How a module is imported: from the first folder that the project's imports name."""
    parts = shown.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    start = next((index for index, part in enumerate(parts) if part in imported), 0)
    return ".".join(parts[start:])


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
    idle = {name for name, needs in NEEDS.items() if not any(word in module.text for word in needs)}
    for id_, rule in IN_MODULE.items():
        if rule.__module__ in idle:
            continue
        for place in without_depth(rule(look)):
            node, message = unpacked(place)
            assert isinstance(node, ast.AST)
            line = line_of(node)
            source = module.lines[line - 1].strip()[:200] if line <= len(module.lines) else ""
            yield Found(module.shown, line, getattr(node, "col_offset", 0) + 1, id_, message, source)


def without_depth(places: Places) -> Places:
    """What a rule finds, up to an expression that is nested too deeply for it."""
    with contextlib.suppress(RecursionError):
        yield from places


def in_project(project: Project) -> Iterator[Found]:
    """What the rules about the whole project find."""
    for id_, rule in IN_PROJECT.items():
        for place in rule(project):
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

"""Rules about how processes start, end and say how they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.look import Look
from checkkit.nodes import keyword, last_name, text_of
from checkkit.notes import TextFile
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_text
from checkkit.rules_fastapi import CONSUMING

LOG_METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")
# Attributes of a LogRecord that `extra` must not name.
RESERVED = {
    "args", "name", "msg", "message", "levelname", "levelno", "pathname", "filename", "module", "exc_info",
    "exc_text", "stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread",
    "threadName", "processName", "process", "asctime",
}  # fmt: skip
UNWELL = {"unhealthy", "unavailable", "down", "fail", "failed", "not ready", "not_ready", "degraded"}
SHELL_CMD = re.compile(r"^\s*(CMD|ENTRYPOINT)\s+(?!\[)(.+)$", re.IGNORECASE)
RUNS = re.compile(r"\b(celery|uvicorn|gunicorn|python3?|fastapi|taskiq|faststream|hypercorn)\b")


@in_module("LIF01", "run")
def no_signal(look: Look) -> Places:
    """A consumer that SIGTERM ends in mid-work."""
    if "SIGTERM" in look.project.mentioned:
        return
    for call, scope in look.calls("run"):
        if look.name(call.func) not in {"asyncio.run", "uvloop.run"} or (
            scope.is_function and look.is_task(scope)
        ):
            continue
        started = call.args[0] if call.args and isinstance(call.args[0], ast.Call) else None
        function = look.callee(started, scope) if started else None
        for _, one in look.project.reach(function) if function else ():
            if one.target.rpartition(".")[2] in CONSUMING - {"basic_consume"} and "." in one.target:
                yield call
                break


@in_text("LIF02")
def shell_form(file: TextFile, _: Project) -> Iterator[int]:
    """A shell between the signal and the process."""
    if "ockerfile" not in file.shown and "ontainerfile" not in file.shown:
        return
    for number, line in enumerate(file.text.split("\n"), 1):
        found = SHELL_CMD.match(line)
        if not found or not RUNS.search(found[2]):
            continue
        parts = re.split(r"&&|;|\|\|?", found[2])
        if len(parts) > 1 and not parts[-1].strip().startswith("exec "):
            yield number


@in_text("LIF07")
def several_in_one(file: TextFile, _: Project) -> Iterator[int]:
    """Processes that nobody watches."""
    if file.shown.endswith((".yml", ".yaml", "Makefile")) or "Procfile" in file.shown:
        return
    lines = file.text.split("\n")
    for number, line in enumerate(lines, 1):
        plain = line.split("#")[0]
        background = re.search(r"(?<!&)&(?!&)\s*(\S.*)?$", plain)
        if background and ">&" not in plain and RUNS.search(plain[: background.start()]):
            rest = (background[1] or "") + "\n".join(lines[number : number + 10])
            if RUNS.search(rest) and "wait -n" not in file.text:
                yield number


@in_module("LIF03", *LOG_METHODS)
def reserved_extra(look: Look) -> Places:
    """A log call that raises."""
    for call, _ in look.calls(*LOG_METHODS):
        extra = keyword(call, "extra")
        if not isinstance(extra, ast.Dict) or not isinstance(call.func, ast.Attribute):
            continue
        named = {text_of(key) for key in extra.keys if key is not None} & RESERVED - {
            "process",
            "thread",
            "created",
        }
        if named and is_logger(call.func.value):
            yield call, ", ".join(sorted(named))


def is_logger(node: ast.expr) -> bool:
    """Whether it is a logger, by its name or as what `getLogger` gives."""
    name = last_name(node.func if isinstance(node, ast.Call) else node).lower()
    return "log" in name and "structlog" not in ast.dump(node)


@in_module("LIF04")
def healthy_code(look: Look) -> Places:
    """Unwell, with status 200."""
    for node in look.nodes(ast.Return):
        assert isinstance(node, ast.Return)
        if not isinstance(node.value, ast.Dict):
            continue
        scope = look.module.function(node)
        if (
            scope is None
            or not look.is_route(scope)
            or not re.search(r"health|read[yi]|live", scope.name.lower())
        ):
            continue
        told = {
            text_of(v).lower()
            for k, v in zip(node.value.keys, node.value.values, strict=True)
            if text_of(k) == "status"
        }
        sets = any(isinstance(o, ast.Attribute) and o.attr == "status_code" for o in ast.walk(scope.node))
        if told & UNWELL and not sets:
            yield node


@in_text("LIF05")
def stops_all(file: TextFile, _: Project) -> Iterator[int]:
    """One pod's end stops every worker."""
    for number, line in enumerate(file.text.split("\n"), 1):
        words = re.sub(r"[\"',\[\]]+", " ", line)
        if re.search(r"\bcontrol\s+shutdown\b", words) and "celery" in words:
            if not re.search(r"\s(-d|--destination)\b", words) and not line.lstrip().startswith("#"):
                yield number


@in_text("LIF06")
def anyone_answers(file: TextFile, _: Project) -> Iterator[int]:
    """A probe that any worker answers."""
    for number, line in enumerate(file.text.split("\n"), 1):
        words = re.sub(r"[\"',\[\]]+", " ", line)
        if re.search(r"\binspect\s+ping\b", words) and "celery" in words:
            if not re.search(r"\s(-d|--destination)\b", words) and not line.lstrip().startswith("#"):
                yield number


@in_text("LIF08")
def forking(file: TextFile, _: Project) -> Iterator[int]:
    """Systemd waits for a fork that never comes."""
    if not file.shown.endswith(".service"):
        return
    starts = "".join(line for line in file.text.split("\n") if line.strip().startswith("ExecStart="))
    foreground = RUNS.search(starts) and not re.search(r"\bmulti\b|--detach|--daemon|\s-D\b", starts)
    for number, line in enumerate(file.text.split("\n"), 1):
        if foreground and re.match(r"\s*Type\s*=\s*forking\s*$", line):
            yield number

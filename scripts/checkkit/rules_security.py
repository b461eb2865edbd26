"""Rules about what lets somebody in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.look import Look
from checkkit.nodes import constant, dotted, inside, keyword, last_name
from checkkit.notes import TextFile
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_text
from checkkit.rules_lifecycle import LOG_METHODS, is_logger

GUEST = re.compile(r"amqps?://guest:guest@(?!localhost|127\.|\[::1\]|/|%|\{|\$|rabbit)\w", re.IGNORECASE)
SECRET = re.compile(
    r"(^|_)(password|passwd|secret|secret_key|api_?key|access_token|refresh_token|private_key|client_secret|dsn"
    r"|database_url|broker_url|redis_url|rabbitmq_url|amqp_url)$",
    re.IGNORECASE,
)
KEYS = re.compile(
    r"(^|_)(password|passwd|(client_)?secret|(secret|api|private)_?key|access_token)$", re.IGNORECASE
)
HTTP = ("get", "post", "put", "patch", "delete", "request", "stream", "Client", "AsyncClient", "Session")


@in_module("SEC02")
def guest(look: Look) -> Places:
    """The broker's well-known account."""
    if "guest:guest" not in look.module.text:
        return
    for scope in look.module.scopes:
        body = getattr(scope.node, "body", [])
        for node in inside(list(body)) if isinstance(body, list) else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and GUEST.match(node.value):
                if not isinstance(look.module.parents.get(node), ast.Expr):
                    yield node


@in_module("SEC03", *LOG_METHODS)
def logged_secret(look: Look) -> Places:
    """A secret in a log line."""
    for call, _ in look.calls(*LOG_METHODS):
        if not isinstance(call.func, ast.Attribute) or not is_logger(call.func.value):
            continue
        for value in told(call):
            name = dotted(value).rpartition(".")[2]
            if revealed(value) or (SECRET.search(name) and not hidden(look.project, name)):
                yield call, name or "get_secret_value()"
                break


def told(call: ast.Call) -> Iterator[ast.expr]:
    """What a log call prints: arguments, and what f-strings hold, not what is passed to a function."""
    values = [*call.args, *(k.value for k in call.keywords if k.arg not in {"exc_info", "stack_info"})]
    for value in values:
        if isinstance(value, ast.JoinedStr):
            yield from (v.value for v in value.values if isinstance(v, ast.FormattedValue))
        elif isinstance(value, ast.Dict):
            yield from value.values
        else:
            yield value


def revealed(node: ast.expr) -> bool:
    """Whether a secret is unwrapped for it."""
    return isinstance(node, ast.Call) and last_name(node.func) == "get_secret_value"


def hidden(project: Project, name: str) -> bool:
    """Whether a field of this name prints as stars."""
    known = [one.fields[name] for one in project.classes.values() if name in one.fields]
    return any("Secret" in annotation for annotation in known)


@in_module("SEC04")
def plain_settings(look: Look) -> Places:
    """Secrets that print with the settings."""
    for node in look.nodes(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        if not any(last_name(base) == "BaseSettings" for base in node.bases):
            continue
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                if KEYS.search(field.target.id) and last_name(field.annotation) == "str" and shown(field):
                    yield field


def shown(field: ast.AnnAssign) -> bool:
    """Whether the field is part of the settings' text."""
    value = field.value
    return not (isinstance(value, ast.Call) and constant(keyword(value, "repr")) is False)


@in_module("SEC05", *HTTP)
def unverified(look: Look) -> Places:
    """Certificates that nobody looks at."""
    for call, scope in look.calls(*HTTP):
        if constant(keyword(call, "verify")) is False:
            target = look.inference.target(call.func, scope)
            if target.startswith(("httpx.", "httpx2.", "requests.")):
                yield call


@in_text("SEC06")
def open_flower(file: TextFile, project: Project) -> Iterator[int]:
    """A dashboard that runs tasks for anybody."""
    if "FLOWER_" in project.mentioned:
        return
    for number, line in enumerate(file.text.split("\n"), 1):
        words = re.sub(r"[\"',\[\]]+", " ", line.split("#")[0])
        if (
            re.search(r"\bcelery\b[^|;&]*\sflower\b", words)
            and not re.search(r"--(basic[-_]auth|auth|oauth)", words)
            and not line.rstrip().endswith("\\")
        ):
            yield number

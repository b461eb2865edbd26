"""Rules about streams of events, and about what runs beside a request."""

from __future__ import annotations

import ast
import re

from checkkit.facts import FunctionFact
from checkkit.look import Look
from checkkit.nodes import last_name, text_of
from checkkit.project import Project
from checkkit.rule import Places, in_module
from checkkit.rules_bridge import BLOCKING
from checkkit.rules_fastapi import is_background

STREAMS = {"StreamingResponse", "EventSourceResponse"}
LIMITS = {
    "asyncio.wait_for", "asyncio.timeout", "asyncio.timeout_at", "anyio.fail_after", "anyio.move_on_after",
}  # fmt: skip
FRAME = re.compile(r"(?:(?:event|id|retry): .*\n)*data:")
ONE_LINE = re.compile(r"(^|_)(id|seq|number|count|json|index|n|i|status|progress|percent)$")
MAKE_ONE_LINE = {"dumps", "model_dump_json", "json", "int", "len", "b64encode", "decode", "round"}


@in_module("API08", "call_next")
def limit_around_streams(look: Look) -> Places:
    """A time limit in a middleware, which ends before the body begins."""
    for call, scope in look.calls("call_next") if STREAMS & look.project.called else ():
        for parent in look.module.above(call):
            if parent is scope.node:
                break
            items = parent.items if isinstance(parent, ast.With | ast.AsyncWith) else []
            around = [parent, *(item.context_expr for item in items)]
            if any(isinstance(one, ast.Call) and look.name(one.func) in LIMITS for one in around):
                yield call


@in_module("API09")
def broken_frames(look: Look) -> Places:
    """An event that ends at the first line break of its text."""
    for node in look.nodes(ast.Yield) if STREAMS & look.project.called else ():
        assert isinstance(node, ast.Yield)
        value = node.value
        if (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Attribute)
            and value.func.attr == "encode"
        ):
            value = value.func.value
        scope = look.module.function(node)
        if isinstance(value, ast.JoinedStr) and scope is not None:
            if not all(is_one_line(part, scope.binds) for part in in_data(value)):
                yield node


def in_data(node: ast.JoinedStr) -> list[ast.expr]:
    """What an f-string puts behind `data:`, if it is a frame of an event stream."""
    frame, found = "", []
    for value in node.values:
        if isinstance(value, ast.FormattedValue):
            if FRAME.match(frame):
                found.append(value.value)
            frame += "?"
        else:
            frame += text_of(value)
    return found


def is_one_line(node: ast.expr, binds: dict[str, list[ast.expr]]) -> bool:
    """Whether a text certainly has no line break: it is JSON, a number, or an id."""
    if isinstance(node, ast.Name) and node.id in binds:
        return all(is_one_line(value, {}) for value in binds[node.id])
    if isinstance(node, ast.Call):
        return last_name(node.func) in MAKE_ONE_LINE
    names = re.findall(r"\w+", ast.unparse(node))
    return bool(names) and bool(ONE_LINE.search(names[-1]))


@in_module("API10", "ServerSentEvent")
def no_place_to_resume(look: Look) -> Places:
    """Events that a client cannot ask for again."""
    for call, _ in look.calls("ServerSentEvent"):
        known = look.name(call.func).startswith(("fastapi.", "sse_starlette."))
        given = {k.arg for k in call.keywords}
        if known and not {"id", "comment", "retry", None} & given and {"data", "raw_data"} & given:
            yield call


@in_module("API11", "add_task")
def takes_a_thread(look: Look) -> Places:
    """Background tasks that use up the threads of the routes."""
    for call, scope in look.calls("add_task"):
        if call.args and is_background(look, call, scope):
            function = look.project.function(look.inference.target(call.args[0], scope))
            if told := blocked(look.project, function):
                yield call, told


def blocked(project: Project, function: FunctionFact | None) -> str:
    """What a plain function waits for; mail and webhooks have a rule of their own."""
    if function is None or function.is_async:
        return ""
    for inner, one in project.reach(function, into=lambda _c, f: not f.is_async):
        if BLOCKING.match(one.target) and one.target.startswith(("time.", "subprocess.", "os.")):
            return f"{one.target} in {inner.name}, {inner.path}:{one.line}"
    return ""

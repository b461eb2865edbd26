"""Rules about Redis streams and lists: what is read, kept and trimmed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from checkkit.look import Look
from checkkit.nodes import constant, dotted, is_open, keyword, lacks, last_name, number, text_of
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.scope import Scope

TAKEOVER = {
    "xautoclaim",
    "xclaim",
    "xpending",
    "xpending_range",
    "XAUTOCLAIM",
    "XCLAIM",
    "claim_min_idle_time",
}


@in_module("RST01", "xreadgroup")
def no_pending(look: Look) -> Places:
    """Read and forgotten."""
    for call, _ in look.calls("xreadgroup"):
        if constant(keyword(call, "noack")) is True:
            yield call


@in_module("RST02", "xreadgroup")
def nobody_takes_over(look: Look) -> Places:
    """What a dead consumer had stays pending."""
    for call, _ in look.calls("xreadgroup"):
        streams = keyword(call, "streams") or (call.args[2] if len(call.args) > 2 else None)
        ids = [constant(v) for v in streams.values] if isinstance(streams, ast.Dict) else [...]
        own = any(i != ">" for i in ids)
        if own:
            look.note("own pending", call)
        elif constant(keyword(call, "noack")) is not True and not is_open(call):
            look.note("reads new", call)
    return
    yield


@in_project("RST02")
def nobody_takes_over_in_project(project: Project) -> Places:
    """Nowhere in the project."""
    taken = TAKEOVER & (project.called | project.mentioned)
    if not taken and not project.notes.get("own pending"):
        yield from project.notes.get("reads new", [])


@in_module("RST03", "xadd")
def trims_unread(look: Look) -> Places:
    """Entries deleted before they are read."""
    if "xreadgroup" not in look.project.called:
        return
    for call, _ in look.calls("xadd"):
        limit = keyword(call, "maxlen")
        name = call.args[0] if call.args else keyword(call, "name")
        label = (text_of(name) or dotted(name)).lower()
        spared = any(word in label for word in ("dead", "dlq", "event_log", "history", "audit", "failed"))
        if is_limit(look, limit) and keyword(call, "ref_policy") is None and not spared:
            yield call


def is_limit(look: Look, node: ast.expr | None) -> bool:
    """Whether it is certain to be a number."""
    if isinstance(node, ast.Name | ast.Attribute):
        values = look.module.top.binds.get(dotted(node), [])
        return last_name(node).isupper() or any(number(value) is not None for value in values)
    return number(node) is not None


@in_module("RST04", "xgroup_create")
def skips_earlier(look: Look) -> Places:
    """A group that begins at the end."""
    for call, _ in look.calls("xgroup_create"):
        if lacks(call, "id") and len(call.args) < 3:
            yield call


@in_module("RST07", "xgroup_delconsumer")
def drops_pending(look: Look) -> Places:
    """A consumer is deleted with what it has not done."""
    for call, scope in look.calls("xgroup_delconsumer"):
        names = {last_name(c.func) for c in scope.calls}
        text = ast.dump(scope.node)
        if not names & {"xpending", "xpending_range", "xinfo_consumers", "xautoclaim", "xclaim"}:
            if "pending" not in text:
                yield call


@in_module("RST10", "blpop", "brpop")
def popped(look: Look) -> Places:
    """A queue whose messages are gone before they are handled."""
    for call, scope in look.calls("blpop", "brpop"):
        if not isinstance(call.func, ast.Attribute) or not look.is_redis(call.func.value, scope):
            continue
        if any(isinstance(p, ast.While) for p in loops(look, call, scope)) and used(look, call):
            yield call


def loops(look: Look, node: ast.AST, scope: Scope) -> Iterator[ast.AST]:
    """What is around a node in its function."""
    for parent in look.module.above(node):
        if parent is scope.node:
            return
        yield parent


def used(look: Look, call: ast.Call) -> bool:
    """Whether somebody looks at what came."""
    parent = look.module.parents.get(call)
    parent = look.module.parents.get(parent) if isinstance(parent, ast.Await) and parent else parent
    return not isinstance(parent, ast.Expr)


@in_module("RST14", "xgroup_create")
def no_stream_yet(look: Look) -> Places:
    """A group of a stream that nobody has written to."""
    for call, _ in look.calls("xgroup_create"):
        if lacks(call, "mkstream") and len(call.args) < 4:
            yield call


@in_module("RST15", "xadd")
def grows(look: Look) -> Places:
    """What RST15 weighs when all modules are read."""
    for call, _ in look.calls("xadd"):
        if not is_open(call):
            look.note("added", call)
    return
    yield


@in_project("RST15")
def grows_for_ever(project: Project) -> Places:
    """A stream that is read and never trimmed."""
    trims = {"xtrim", "xdel", "xdelex", "xackdel"} & project.called
    trims |= {"XTRIM", "maxlen", "minid"} & project.mentioned
    if "xreadgroup" in project.called and not trims:
        yield from project.notes.get("added", [])[:1]

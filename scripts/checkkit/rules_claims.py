"""Rules about taking over what another consumer of a Redis stream has read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.look import LOGGING, Look
from checkkit.nodes import constant, inside, keyword, last_name, names_in, number, text_of
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.scope import Scope

COUNTS = re.compile(
    r"attempt|retries|\btries|deliver(y|ies)_?count|max_deliver|times_delivered", re.IGNORECASE
)
DEADLINES = {"wait_for", "timeout", "timeout_at", "fail_after", "move_on_after"}
PENDING = ("name", "groupname", "min", "max", "count", "consumername", "idle")  # of xpending_range
IDLY = LOGGING | {"xack", "len", "str", "repr", "decode"}


@in_module("RST11", "xautoclaim", "xclaim")
def comes_back_for_ever(look: Look) -> Places:
    """What RST11, RST12 and RST17 weigh when all modules are read."""
    for call, scope in look.calls("xautoclaim", "xclaim"):
        if constant(keyword(call, "justid")) is True:
            look.note("heartbeat", call)
        elif isinstance(call.func, ast.Attribute):
            if not COUNTS.search(look.module.text):
                look.note("uncounted claim", call)
            if last_name(call.func) == "xautoclaim":
                look.note("claim", call)
            if is_dropped(look, call, scope):
                look.note("dropped claim", call)
    return
    yield


@in_project("RST11")
def comes_back_for_ever_in_project(project: Project) -> Places:
    """Where nothing counts the deliveries."""
    if "times_delivered" not in project.mentioned:
        yield from project.notes.get("uncounted claim", [])


@in_project("RST12")
def claimed_and_left(project: Project) -> Places:
    """Entries that are taken over and not handled."""
    if not project.notes.get("own pending"):
        yield from project.notes.get("dropped claim", [])


def is_dropped(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether nobody but the log sees what was claimed."""
    holder = look.module.parents.get(call)
    holder = look.module.parents.get(holder) if isinstance(holder, ast.Await) else holder
    if isinstance(holder, ast.Expr):
        return True
    if not isinstance(holder, ast.Assign) or not scope.is_function:
        return False
    target = holder.targets[0]
    if isinstance(target, ast.Tuple) and len(target.elts) > 1:
        target = target.elts[1]
    return isinstance(target, ast.Name) and not is_used(look, {target.id}, scope)


def is_used(look: Look, names: set[str], scope: Scope) -> bool:
    """Whether something is done with a value: anything but logging and acknowledging what it holds."""
    body = list(getattr(scope.node, "body", []))
    names = set(names)
    for loop in (one for one in inside(body) if isinstance(one, ast.For)):
        names |= names_in(loop.target) if names & names_in(loop.iter) else set()
    for one in inside(body):
        if isinstance(one, ast.Name) and one.id in names and isinstance(one.ctx, ast.Load):
            if not any(is_idle(parent) for parent in up_to_statement(look, one)):
                return True
    return False


def up_to_statement(look: Look, node: ast.AST) -> Iterator[ast.AST]:
    """What is around an expression, and its statement."""
    yield node
    for parent in look.module.above(node):
        yield parent
        if isinstance(parent, ast.stmt):
            return


def is_idle(node: ast.AST) -> bool:
    """Whether it hands nothing on: a log line, an acknowledgement, the head of a loop."""
    return isinstance(node, ast.For) or (isinstance(node, ast.Call) and last_name(node.func) in IDLY)


@in_module("RST13", "xpending_range")
def first_page(look: Look) -> Places:
    """Only the first pending entries are looked at."""
    for call, scope in look.calls("xpending_range"):
        given = dict(zip(PENDING, call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
        count = number(given.get("count")) or 0
        claims = {"xclaim", "xautoclaim"} & {last_name(c.func) for c in scope.calls}
        if text_of(given.get("min")) == "-" and "idle" not in given and claims and count > 1:
            yield call


@in_project("RST17")
def claimed_at_work(project: Project) -> Places:
    """An entry that is taken from somebody who still works on it."""
    if not project.notes.get("heartbeat") and not DEADLINES & project.called:
        yield from project.notes.get("claim", [])

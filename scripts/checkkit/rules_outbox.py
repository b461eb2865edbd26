"""Rules about sending what a transaction decides."""

from __future__ import annotations

import ast
import re

from checkkit.look import Look
from checkkit.nodes import inside, last_name, text_of
from checkkit.rule import Places, in_module
from checkkit.rules_celery import is_sending, sends
from checkkit.rules_consumers import begins
from checkkit.scope import Scope

RELAY = re.compile(r"outbox|relay|dispatch|with_for_update|skip_locked|SKIP LOCKED", re.IGNORECASE)


OUTBOX = re.compile(r"outbox", re.IGNORECASE)


ADVISORY = re.compile(r"pg_(try_)?advisory_lock(_shared)?\b")


WRITES = {"add", "add_all", "flush", "merge", "delete", "bulk_save_objects"}


def is_publish(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether something leaves the process at once: a task, a message, an entry."""
    name = last_name(call.func)
    if name in {"delay", "apply_async", "send_task"}:
        return sends(look, call, scope)
    if not isinstance(call.func, ast.Attribute):
        return False
    if name in {"basic_publish", "xadd"}:
        return name == "basic_publish" or look.is_redis(call.func.value, scope)
    made = look.receiver(call, scope)
    return name == "publish" and made.startswith(("aio_pika", "redis", "faststream", "nats"))


def relays(look: Look, scope: Scope) -> bool:
    """Whether a function is the relay of an outbox: it sends what was committed before."""
    start = getattr(scope.node, "lineno", 1) - 1
    end = getattr(scope.node, "end_lineno", start + 1) or start + 1
    return bool(RELAY.search("\n".join(look.module.lines[start:end])))


@in_module("OUT01")
def sent_before_commit(look: Look) -> Places:
    """Sent before the commit."""
    if not ({"commit", "begin"} & look.module.by_name.keys()):
        return
    for scope in look.module.scopes:
        if not scope.is_function:
            continue
        commits = [c for c in scope.calls if last_name(c.func) == "commit" and is_commit(look, c, scope)]
        for call in scope.calls:
            if is_publish(look, call, scope) and not relays(look, scope):
                if in_begin(look, call, scope) or (commits and before_commit(look, call, commits, scope)):
                    yield call
            elif in_begin(look, call, scope) and sends_through(look, call, scope):
                yield call, "what it calls sends"


def is_commit(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether a session is committed."""
    return isinstance(call.func, ast.Attribute) and look.is_session(call.func.value, scope)


def in_begin(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether a transaction is open around a call."""
    for parent in look.module.above(call):
        if parent is scope.node:
            return False
        if isinstance(parent, ast.With | ast.AsyncWith) and begins(look, parent, scope):
            return not any(call in ast.walk(item.context_expr) for item in parent.items)
    return False


def before_commit(look: Look, call: ast.Call, commits: list[ast.Call], scope: Scope) -> bool:
    """Whether something was written, then sent, then committed, in this order."""
    if any(commit.lineno < call.lineno for commit in commits):
        return False
    wrote = any(
        last_name(c.func) in WRITES and c.lineno < call.lineno and is_commit(look, c, scope)
        for c in scope.calls
    )
    after = [commit for commit in commits if commit.lineno > call.lineno]
    return wrote and any(follows(look, call, commit) for commit in after)


def follows(look: Look, call: ast.Call, commit: ast.Call) -> bool:
    """Whether the commit stands in the block of the call, or in one around it."""
    block, at = look.siblings(commit)
    first = {id(one) for one in block[:at]}
    return any(id(parent) in first for parent in look.module.above(call))


def sends_through(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether a function of the project that is called here sends a task."""
    callee = look.callee(call, scope)
    if callee is None or RELAY.search(callee.name) or look.project.is_task(callee):
        return False
    into = look.project.reach(
        callee, into=lambda _c, f: not RELAY.search(f.name) and not look.project.is_task(f)
    )
    return any(is_sending(look.project, one.target) for _, one in into)


@in_module("OUT02")
def cursor(look: Look) -> Places:
    """A relay that remembers the last id."""
    for node in look.nodes(ast.Compare):
        assert isinstance(node, ast.Compare)
        left = node.left
        if not isinstance(node.ops[0], ast.Gt | ast.GtE) or not isinstance(left, ast.Attribute):
            continue
        scope = look.module.function(node)
        named = (
            isinstance(left.value, ast.Name)
            and OUTBOX.search(left.value.id)
            and left.attr in {"id", "seq", "position"}
        )
        if named and isinstance(node.comparators[0], ast.Name | ast.Attribute) and scope and publishes(scope):
            yield node


def publishes(scope: Scope) -> bool:
    """Whether a function sends."""
    names = {"publish", "basic_publish", "xadd", "delay", "apply_async", "send", "send_and_wait", "produce"}
    return any(last_name(c.func) in names and isinstance(c.func, ast.Attribute) for c in scope.calls)


@in_module("OUT03", "select", "query")
def two_relays(look: Look) -> Places:
    """Two relays send the same rows."""
    for call, scope in look.calls("select", "query"):
        first = call.args[0] if call.args else None
        if not isinstance(first, ast.Name) or not OUTBOX.search(first.id) or not scope.is_function:
            continue
        start = getattr(scope.node, "lineno", 1) - 1
        text = "\n".join(look.module.lines[start : getattr(scope.node, "end_lineno", start + 1)])
        if publishes(scope) and not re.search(r"for_update|lock|FOR UPDATE|lease|claim", text, re.IGNORECASE):
            yield call


@in_module("OUT04", "execute", "scalar", "scalars")
def leaked_lock(look: Look) -> Places:
    """A lock that stays with the pooled connection."""
    if "advisory" not in look.module.text or "pg_advisory_unlock" in look.module.text:
        return
    for call, scope in look.calls("execute", "scalar", "scalars"):
        if not isinstance(call.func, ast.Attribute) or not look.is_session(call.func.value, scope):
            continue
        for one in inside(list(call.args)):
            name = (
                one.attr
                if isinstance(one, ast.Attribute)
                else text_of(one)
                if isinstance(one, ast.Constant)
                else ""
            )
            if ADVISORY.search(name):
                yield call


@in_module("OUT06")
def sent_after_commit(look: Look) -> Places:
    """A crash between commit and sending."""
    for scope in look.module.scopes:
        if not look.is_route(scope):
            continue
        commits = [
            c.lineno for c in scope.calls if last_name(c.func) == "commit" and is_commit(look, c, scope)
        ]
        for call in scope.calls:
            if (
                commits
                and min(commits) < call.lineno
                and sends(look, call, scope)
                and not relays(look, scope)
            ):
                yield call

"""Rules about how long a session and its transaction last, and what is left of them after an error."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from checkkit.effects import REQUEST, effect_of
from checkkit.look import Look, called_names, catches
from checkkit.nodes import calls_in, dotted, inside, last_name, names_in
from checkkit.rule import Places, in_module
from checkkit.rules_consumers import ACKS, begins
from checkkit.rules_outbox import in_begin
from checkkit.scope import Scope

WITHS = (ast.With, ast.AsyncWith)
WRITES = {"flush", "commit", "execute", "scalar", "scalars"}
MESSAGES = {*ACKS, "process", "xreadgroup", "get_message"}


@in_module("ASY09")
def session_for_all(look: Look) -> Places:
    """One session for all messages that ever come."""
    if MESSAGES.isdisjoint(look.module.by_name):
        return
    for node in look.nodes(*WITHS):
        assert isinstance(node, ast.With | ast.AsyncWith)
        scope = look.scope(node)
        for name in sessions_of(look, node, scope):
            for loop in inside(node.body):
                endless = isinstance(loop, ast.AsyncFor) or is_endless(loop)
                if endless and called_names(loop) & MESSAGES and name in names_in(loop):
                    yield node
                    break


def is_endless(node: ast.AST) -> bool:
    """Whether a `while` does not count."""
    return isinstance(node, ast.While) and not isinstance(node.test, ast.Compare)


def sessions_of(look: Look, node: ast.With | ast.AsyncWith, scope: Scope) -> Iterator[str]:
    """The names of the sessions that a `with` opens."""
    for item in node.items:
        if isinstance(item.optional_vars, ast.Name) and isinstance(item.context_expr, ast.Call):
            if look.is_session(item.optional_vars, scope) and not begins(look, node, scope):
                yield item.optional_vars.id


@in_module("ASY10")
def transaction_over_request(look: Look) -> Places:
    """A transaction that is open while somebody else's server thinks."""
    if "begin" not in look.module.by_name:
        return
    for scope in look.module.scopes:
        for call in scope.calls if scope.is_function else ():
            if not in_begin(look, call, scope):
                continue
            if REQUEST.match(look.target(call, scope)):
                yield call
            elif told := effect_of(look.project, look.callee(call, scope)):
                yield call, told


@in_module("ASY11")
def goes_on_after_conflict(look: Look) -> Places:
    """A session that is used again after an error without a rollback."""
    if "IntegrityError" not in look.module.text:
        return
    for node in look.nodes(ast.Try):
        assert isinstance(node, ast.Try)
        handler = next((h for h in node.handlers if catches(h, "IntegrityError")), None)
        scope = look.module.function(node)
        if handler is None or scope is None or not isinstance(handler.type, ast.expr):
            continue
        used = {owner for owner, last in session_calls(look, node.body, scope) if last in WRITES}
        names = called_names([*handler.body, *node.finalbody])
        if not used or "rollback" in names or is_nested(look, node):
            continue
        if used & {owner for owner, _ in session_calls(look, later(look, node, handler), scope)}:
            yield handler


def session_calls(look: Look, body: list[ast.stmt], scope: Scope) -> Iterator[tuple[str, str]]:
    """Sessions, and what is called on them."""
    for call in calls_in(body):
        if isinstance(call.func, ast.Attribute) and look.is_session(call.func.value, scope):
            yield dotted(call.func.value), call.func.attr


def is_nested(look: Look, node: ast.Try) -> bool:
    """Whether a savepoint, or a `with` inside of the `try`, ends what went wrong."""
    around = (p for p in look.module.above(node) if isinstance(p, WITHS))
    withs = [*around, *(one for one in inside(node.body) if isinstance(one, WITHS))]
    calls = [
        item.context_expr for one in withs for item in one.items if isinstance(item.context_expr, ast.Call)
    ]
    inner = any(isinstance(one, WITHS) for one in inside(node.body))
    return inner or any(last_name(call.func) == "begin_nested" for call in calls)


def later(look: Look, node: ast.Try, handler: ast.ExceptHandler) -> list[ast.stmt]:
    """What runs after the handler: the rest of it and, if it does not leave, what follows."""
    leaves = any(isinstance(one, ast.Raise | ast.Return | ast.Break | ast.Continue) for one in handler.body)
    block, at = look.siblings(node)
    return handler.body if leaves else [*handler.body, *block[at + 1 :]]

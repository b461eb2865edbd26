"""Rules about asyncio's tasks: who holds them, and how they are cancelled."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from checkkit.look import Look, catches
from checkkit.nodes import inside, keyword, last_name, number
from checkkit.rule import Places, in_module
from checkkit.scope import Scope

SPAWN = ("create_task", "ensure_future")


@in_module("ASY04", *SPAWN)
def unheld_task(look: Look) -> Places:
    """A task that nothing refers to."""
    for node in look.nodes(ast.Expr):
        assert isinstance(node, ast.Expr)
        call = node.value
        if not isinstance(call, ast.Call) or last_name(call.func) not in SPAWN:
            continue
        scope = look.scope(call)
        target = look.inference.target(call.func, scope)
        plain = target in {f"asyncio.{name}" for name in SPAWN}
        if plain or target.startswith("asyncio.get_") or is_loop(call.func, look, scope):
            yield call


def is_loop(func: ast.expr, look: Look, scope: Scope) -> bool:
    """Whether it is a method of an event loop."""
    if not isinstance(func, ast.Attribute):
        return False
    return look.type(func.value, scope) in {"asyncio.get_running_loop", "asyncio.get_event_loop"}


@in_module("ASY07")
def swallowed_cancel(look: Look) -> Places:
    """A loop that a cancellation does not end."""
    for node in look.nodes(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        if not catches(node, "BaseException", "CancelledError"):
            continue
        scope = look.module.function(node)
        if scope is None or not scope.is_async or leaves(node) or not endless_around(look, node, scope):
            continue
        try_node = look.module.parents[node]
        assert isinstance(try_node, ast.Try)
        awaits = any(isinstance(one, ast.Await) for one in inside(try_node.body))
        cancels = any(last_name(c.func) == "cancel" for c in scope.calls)
        if awaits and not cancels and not taken_before(node, try_node):
            yield node


def taken_before(handler: ast.ExceptHandler, node: ast.Try) -> bool:
    """Whether a handler before it lets cancellations through."""
    before = node.handlers[: node.handlers.index(handler)]
    return any(catches(one, "CancelledError") and leaves(one) for one in before)


def leaves(handler: ast.ExceptHandler) -> bool:
    """Whether a handler may end the loop."""
    kinds = (ast.Raise, ast.Return, ast.Break)
    stored = (
        handler.name is not None
        and handler.name in {one.id for s in handler.body for one in ast.walk(s) if isinstance(one, ast.Name)}
        and any(isinstance(one, ast.Assign | ast.Call) for s in handler.body for one in ast.walk(s))
    )
    jumps = any(isinstance(one, kinds) for s in handler.body for one in ast.walk(s))
    return jumps or (stored and any(isinstance(one, ast.Assign) for s in handler.body for one in ast.walk(s)))


def endless_around(look: Look, node: ast.AST, scope: Scope) -> bool:
    """Whether a `while` repeats it."""
    for parent in look.module.above(node):
        if parent is scope.node:
            return False
        if isinstance(parent, ast.While):
            return True
    return False


@in_module("ASY12", "gather")
def leaves_siblings(look: Look) -> Places:
    """A message that fails, while the others of its batch run on unwatched."""
    for call, scope in look.calls("gather"):
        if look.name(call.func) != "asyncio.gather" or keyword(call, "return_exceptions") is not None:
            continue
        names = {last_name(c.func) for c in scope.calls}
        many = any(isinstance(one, ast.Starred) for one in call.args)
        if many and names & {"xreadgroup", "xautoclaim", "receive_messages", "get_message", "xclaim"}:
            yield call


@in_module("ASY13", "to_thread", "run_in_executor", "run_in_threadpool")
def thread_runs_on(look: Look) -> Places:
    """A time limit around a thread, which does not end it."""
    for call, scope in look.calls("to_thread", "run_in_executor", "run_in_threadpool"):
        if look.name(call.func).startswith(("anyio.", "trio.")):
            continue
        waiting = look.module.parents.get(call)
        limit: ast.expr | None
        if isinstance(waiting, ast.Call) and look.name(waiting.func) == "asyncio.wait_for":
            limit = keyword(waiting, "timeout") or waiting.args[-1]
        elif isinstance(waiting, ast.Await):
            limit = next(filter(None, (limit_of(look, one) for one in around(look, call, scope))), None)
        else:
            continue
        if number(limit) is not None:
            yield call


def around(look: Look, node: ast.AST, scope: Scope) -> Iterator[ast.AST]:
    """What is around a node in its function."""
    for parent in look.module.above(node):
        if parent is scope.node:
            return
        yield parent


def limit_of(look: Look, node: ast.AST) -> ast.expr | None:
    """The seconds of `async with asyncio.timeout(...)`."""
    for item in node.items if isinstance(node, ast.AsyncWith) else ():
        call = item.context_expr
        if isinstance(call, ast.Call) and call.args and look.name(call.func) == "asyncio.timeout":
            return call.args[0]
    return None

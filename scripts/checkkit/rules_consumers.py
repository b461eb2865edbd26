"""Rules about when a message is acknowledged, whatever brings it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from checkkit.look import LOGGING, Look, called_names, catches, is_quiet
from checkkit.nodes import calls_in, constant, dotted, keyword, last_name, names_in
from checkkit.rule import Places, in_module
from checkkit.scope import Scope

ACKS = ("ack", "xack", "basic_ack")


# What is done to a message before it is handled, and around it.
PARSING = {
    "loads",
    "model_validate", "model_validate_json", "parse_raw", "parse_obj", "decode", "get", "dict", "int",
    "str", "len", "from_dict", "items", "UUID", "validate_json", "validate_python", "isinstance", "getattr",
    "float", "bool", "list", "repr", "type", "append", "bind_contextvars", "heartbeat", "set", "time", "add",
} | LOGGING  # fmt: skip


@in_module("CON01", *ACKS)
def ack_before_work(look: Look) -> Places:
    """Acknowledged, then done."""
    for call, scope in look.calls(*ACKS):
        if not isinstance(call.func, ast.Attribute) or not scope.is_function:
            continue
        if in_transaction(look, call, scope):
            yield call, "the transaction around it commits later"
            continue
        block, at = look.siblings(call)
        payload = payload_names(look, call, scope)
        before = any(works(s, payload) for s in block[:at])
        later = block[at + 1 :]
        commits = any(last_name(c.func) == "commit" for c in calls_in(later))
        if commits or (not before and any(works(s, payload) for s in later)):
            yield call


def in_transaction(look: Look, node: ast.AST, scope: Scope) -> bool:
    """Whether `async with session.begin()` is around it, and inside of any loop."""
    for parent in look.module.above(node):
        if parent is scope.node or isinstance(parent, ast.While | ast.For | ast.AsyncFor):
            return False
        if isinstance(parent, ast.With | ast.AsyncWith) and begins(look, parent, scope):
            return True
    return False


def begins(look: Look, node: ast.With | ast.AsyncWith, scope: Scope) -> bool:
    """Whether a `with` is a transaction."""
    for item in node.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "begin":
            made = look.type(call.func.value, scope)
            if (
                look.is_session(call.func.value, scope)
                or "sessionmaker" in made
                or "ession" in dotted(call.func.value)
            ):
                return True
    return False


def payload_names(look: Look, call: ast.Call, scope: Scope) -> set[str]:
    """Names of the message and of what was read from it."""
    names = set(scope.parameters) - {
        "self",
        "cls",
        "session",
        "db",
        "channel",
        "ch",
        "redis",
        "client",
        "method",
    }
    for parent in look.module.above(call):
        if parent is scope.node:
            break
        if isinstance(parent, ast.For | ast.AsyncFor):
            names |= names_in(parent.target)
    assert isinstance(call.func, ast.Attribute)
    if isinstance(call.func.value, ast.Name) and call.func.attr == "ack":
        names.add(call.func.value.id)
    for _ in range(2):
        for name, values in scope.binds.items():
            if any(names & names_in(value) for value in values):
                names.add(name)
    return names - {name for value in call.args for name in names_in(value)}  # the tag or id alone


def works(statement: ast.stmt, payload: set[str]) -> bool:
    """Whether a statement hands the message on to be handled."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    for call in calls_in([statement]):
        name = last_name(call.func)
        if name in PARSING or name in ACKS or name.startswith(("xa", "ack", "basic_")):
            continue
        values = [*call.args, *(k.value for k in call.keywords)]
        if any(payload & names_in(value) for value in values):
            return True
    return False


@in_module("CON02")
def failure_acked(look: Look) -> Places:
    """An error that is logged, and the message acknowledged."""
    for node in look.nodes(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        wide = node.type is None or catches(node, "Exception", "BaseException")
        if not wide or not all(is_quiet(s) for s in node.body):
            continue
        try_node = look.module.parents[node]
        if isinstance(try_node, ast.Try) and handles(try_node) and acked_after(look, try_node, node):
            yield node


def handles(node: ast.Try) -> bool:
    """Whether work is done in the `try`, which is not only the acknowledgement or a close."""
    names = called_names(node.body)
    side = {
        "close",
        "aclose",
        "rollback",
        "send",
        "set_result",
        "ping",
        "disconnect",
        "cancel",
        "publish_metric",
    }
    return bool(names - set(ACKS) - PARSING - side) and not names & {"nack", "reject"}


def acked_after(look: Look, node: ast.Try, handler: ast.ExceptHandler) -> bool:
    """Whether the message is acknowledged although the handler ran."""
    if called_names(node.finalbody) & set(ACKS):
        return True
    goes_on = not any(isinstance(s, ast.Continue) for s in handler.body)
    block, at = look.siblings(node)
    if not block and node in getattr(look.module.parents.get(node), "body", []):
        block = getattr(look.module.parents.get(node), "body", [])
        at = block.index(node)
    later = block[at + 1 : at + 4]
    if goes_on and any(isinstance(s, ast.Expr) and called_names([s]) & set(ACKS) for s in later):
        return True
    return any(in_process(look, parent) for parent in nearest(look, node))


def nearest(look: Look, node: ast.AST) -> Iterator[ast.AST]:
    """What is around a node, up to its function or loop."""
    for parent in look.module.above(node):
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.For | ast.AsyncFor | ast.While):
            return
        yield parent


def in_process(look: Look, node: ast.AST) -> bool:
    """Whether it is `async with message.process()`."""
    if not isinstance(node, ast.AsyncWith):
        return False
    calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
    ignored = any(constant(keyword(c, "ignore_processed")) is True for c in calls)
    named = any(isinstance(c.func, ast.Attribute) and c.func.attr == "process" for c in calls)
    return named and not ignored and look.project.uses("aio_pika")

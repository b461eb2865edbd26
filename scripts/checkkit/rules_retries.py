"""Rules about trying again, and about telling errors apart."""

from __future__ import annotations

import ast

from checkkit.look import Look, called_names
from checkkit.nodes import dotted, is_open, keyword, last_name, text_of
from checkkit.rule import Places, in_module

BOUNDS = {
    "tenacity.retry": ("stop",),
    "backoff.on_exception": ("max_tries", "max_time"),
    "backoff.on_predicate": ("max_tries", "max_time"),
}


@in_module("CON03")
def endless_retry(look: Look) -> Places:
    """A retry without an end."""
    for scope in look.module.scopes:
        for decorator in scope.decorators:
            call = decorator if isinstance(decorator, ast.Call) else None
            name = look.name(call.func if call else decorator)
            bounds = BOUNDS.get(name)
            if bounds and not bounded(call, *bounds):
                yield decorator
    for call, _ in look.calls("Retrying", "AsyncRetrying"):
        if look.name(call.func).startswith("tenacity.") and not bounded(call, "stop"):
            yield call


def bounded(call: ast.Call | None, *names: str) -> bool:
    """Whether one of the bounds is given, or may be."""
    return call is not None and (is_open(call) or any(keyword(call, name) is not None for name in names))


@in_module("CON04")
def no_wait(look: Look) -> Places:
    """Retries without a pause."""
    for scope in look.module.scopes:
        for decorator in scope.decorators:
            if isinstance(decorator, ast.Call) and look.name(decorator.func) == "tenacity.retry":
                if bounded(decorator, "stop") and not bounded(decorator, "wait"):
                    yield decorator
    for call, _ in look.calls("Retrying", "AsyncRetrying"):
        if (
            look.name(call.func).startswith("tenacity.")
            and bounded(call, "stop")
            and not bounded(call, "wait")
        ):
            yield call


@in_module("CON08")
def told_by_text(look: Look) -> Places:
    """The kind of an error, told by its words."""
    for node in look.nodes(ast.Compare):
        assert isinstance(node, ast.Compare)
        if not isinstance(node.ops[0], ast.In) or not text_of(node.left):
            continue
        caught = next((p for p in look.module.above(node) if isinstance(p, ast.ExceptHandler)), None)
        right = node.comparators[0]
        while (
            isinstance(right, ast.Call)
            and isinstance(right.func, ast.Attribute)
            and right.func.attr in {"lower", "upper", "casefold"}
        ):
            right = right.func.value
        told = isinstance(right, ast.Call) and last_name(right.func) in {"str", "repr"} and right.args
        if caught is None or not told or not caught.name or not decides(look, node, caught):
            continue
        assert isinstance(right, ast.Call)
        if dotted(right.args[0]) == caught.name:
            yield node


def decides(look: Look, node: ast.AST, caught: ast.ExceptHandler) -> bool:
    """Whether the message is retried or given up for it."""
    names = called_names(caught.body)
    raised = any(isinstance(o, ast.Raise) for s in caught.body for o in ast.walk(s))
    settles = {"retry", "nack", "reject", "ack", "requeue", "publish", "xack", "basic_nack", "basic_reject"}
    function = look.module.function(node)
    return bool(names & settles) or (raised and function is not None and look.is_task(function))


@in_module("CON12", "retry", "Retrying", "AsyncRetrying")
def hidden_cause(look: Look) -> Places:
    """`RetryError` instead of the error that callers know."""
    for call, _ in look.calls("retry", "Retrying", "AsyncRetrying"):
        given = {"reraise", "retry_error_callback", "retry_error_cls"} & {k.arg for k in call.keywords}
        known = look.name(call.func) in {"tenacity.retry", "tenacity.Retrying", "tenacity.AsyncRetrying"}
        if known and not given and not is_open(call) and bounded(call, "stop"):
            yield call


@in_module("CON13")
def retried_generator(look: Look) -> Places:
    """A retry that ends before the first line runs."""
    for scope in look.module.scopes:
        for decorator in scope.decorators if scope.yields and scope.is_function else ():
            func = decorator.func if isinstance(decorator, ast.Call) else decorator
            if look.name(func) in {"tenacity.retry", "backoff.on_exception"}:
                yield decorator

"""Rules about how a Celery task fails, is tried again and acknowledged."""

from __future__ import annotations

import ast

from checkkit.look import Look, catches, ends_otherwise
from checkkit.nodes import calls_in, constant, keyword, last_name
from checkkit.rule import Places, in_module


@in_module("CEL10")
def retries_bugs(look: Look) -> Places:
    """Retrying whatever happens."""
    for _, decorator in look.tasks():
        if not isinstance(decorator, ast.Call) or keyword(decorator, "dont_autoretry_for") is not None:
            continue
        errors = keyword(decorator, "autoretry_for")
        every = errors.elts if isinstance(errors, ast.Tuple | ast.List) else [errors]
        if any(e is not None and last_name(e) in {"Exception", "BaseException"} for e in every):
            yield decorator


@in_module("CEL11")
def swallowed_retry(look: Look) -> Places:
    """`self.retry()` raises, and the `except` around it takes that."""
    for node in look.nodes(ast.Try) if look.tasks() else ():
        assert isinstance(node, ast.Try)
        retries = [c for c in calls_in(node.body) if is_retry(look, c)]
        for handler in node.handlers:
            if catches(handler, "Retry"):
                break
            if (
                retries
                and catches(handler, "Exception", "BaseException")
                and not ends_otherwise(handler.body)
            ) and not any(is_retry(look, c) for c in calls_in(handler.body)):
                yield retries[0]

    for call, _ in look.calls("retry"):
        if constant(keyword(call, "throw")) is False and is_task_method(look, call):
            if isinstance(look.module.parents.get(call), ast.Expr):
                yield call, "throw=False gives the exception back, and nothing raises it"


def is_retry(look: Look, call: ast.Call) -> bool:
    """Whether it is `self.retry(...)` in a task, which raises."""
    named = isinstance(call.func, ast.Attribute) and call.func.attr == "retry"
    return named and constant(keyword(call, "throw")) is not False and is_task_method(look, call)


def is_task_method(look: Look, call: ast.Call) -> bool:
    """Whether a task calls it."""
    return isinstance(call.func, ast.Attribute) and look.is_task(look.module.function(call))


@in_module("CEL12")
def endless_retries(look: Look) -> Places:
    """Retries without an end."""
    for _, decorator in look.tasks():
        value = keyword(decorator, "max_retries") if isinstance(decorator, ast.Call) else None
        if value is not None and constant(value) is None:
            yield value


@in_module("CEL13")
def no_backoff(look: Look) -> Places:
    """Retries at the same moment."""
    for _, decorator in look.tasks():
        if not isinstance(decorator, ast.Call) or keyword(decorator, "autoretry_for") is None:
            continue
        backoff = keyword(decorator, "retry_backoff")
        jitter = constant(keyword(decorator, "retry_jitter"))
        if backoff is None or constant(backoff) is False or jitter is False:
            if not any(k.arg is None for k in decorator.keywords):
                yield decorator


@in_module("CEL17")
def never_reached(look: Look) -> Places:
    """`retry(exc=...)` raises `exc`, not `MaxRetriesExceededError`."""
    for node in look.nodes(ast.Try) if look.tasks() else ():
        assert isinstance(node, ast.Try)
        retries = [c for c in calls_in(node.body) if is_retry(look, c) and keyword(c, "exc") is not None]
        wide = any(catches(h, "Exception", "BaseException") for h in node.handlers)
        for handler in node.handlers:
            if retries and not wide and catches(handler, "MaxRetriesExceededError"):
                yield handler


@in_module("CEL02")
def acks_settings_of_tasks(look: Look) -> Places:
    """What CEL01 and CEL02 weigh when all modules are read."""
    for _, decorator in look.tasks():
        if not isinstance(decorator, ast.Call):
            look.note("task", decorator, False)
            continue
        late = constant(keyword(decorator, "acks_late")) is True
        lost = keyword(decorator, "reject_on_worker_lost") or keyword(decorator, "retry_on_worker_lost")
        look.note("task", decorator, late)
        if keyword(decorator, "time_limit") is not None or keyword(decorator, "soft_time_limit") is not None:
            look.note("limited task", decorator)
        opened = any(k.arg is None for k in decorator.keywords)
        if late and lost is None and not opened:
            look.note("late task", decorator)
    return
    yield


@in_module("CEL04")
def no_ack_of_failures(look: Look) -> Places:
    """A task that is not acknowledged when it fails."""
    for _, decorator in look.tasks():
        for name in ("acks_on_timeout", "acks_on_failure", "acks_on_failure_or_timeout"):
            value = keyword(decorator, name) if isinstance(decorator, ast.Call) else None
            if value is not None and constant(value) is False:
                yield value

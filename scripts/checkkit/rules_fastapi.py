"""Rules about work that is left to the API's own process."""

from __future__ import annotations

import ast

from checkkit.effects import effect_of
from checkkit.look import Look, is_session_type, line_of
from checkkit.nodes import constant, dotted, keyword, last_name
from checkkit.rule import Places, in_module
from checkkit.rules_cron import is_startup
from checkkit.scope import Scope

STREAMS = ("fastapi.", "starlette.", "sse_starlette.")
CONSUMING = {"xreadgroup", "blpop", "brpop", "iterator", "consume", "basic_consume"}


@in_module("API02", "add_task")
def session_in_background(look: Look) -> Places:
    """A background task with the request's session."""
    for call, scope in look.calls("add_task"):
        if is_background(look, call, scope):
            for value in [*call.args[1:], *(k.value for k in call.keywords)]:
                if isinstance(value, ast.Name) and look.is_session(value, scope):
                    yield call


def is_background(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether it is FastAPI's `BackgroundTasks`."""
    return look.receiver(call, scope).rpartition(".")[2].removesuffix("()") == "BackgroundTasks"


@in_module("API03", "add_task")
def lost_in_background(look: Look) -> Places:
    """Mail, payments and webhooks that a crash forgets."""
    for call, scope in look.calls("add_task"):
        if not call.args or not is_background(look, call, scope):
            continue
        target = look.inference.target(call.args[0], scope)
        if told := effect_of(look.project, look.project.function(target)):
            yield call, told


@in_module("API04", "FastAPI", "on_event", "add_event_handler")
def ignored_event(look: Look) -> Places:
    """A start-up function that never runs."""
    apps = set()
    for call, scope in look.calls("FastAPI"):
        parent = look.module.parents.get(call)
        if keyword(call, "lifespan") is not None and isinstance(parent, ast.Assign | ast.AnnAssign):
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            apps |= {(scope, dotted(target)) for target in targets}
    for call, scope in look.calls("on_event", "add_event_handler"):
        if isinstance(call.func, ast.Attribute) and (scope, dotted(call.func.value)) in apps:
            yield call


@in_module("API05", "create_task", "ensure_future")
def consumer_in_api(look: Look) -> Places:
    """A consumer that lives and dies in the API's process."""
    for call, scope in look.calls("create_task", "ensure_future"):
        started = call.args[0] if call.args else None
        if not isinstance(started, ast.Call) or not is_startup(scope, look) or look.in_loop(call, scope):
            continue
        function = look.callee(started, scope)
        for _, one in look.project.reach(function) if function else ():
            if one.target.rpartition(".")[2] in CONSUMING and "." in one.target:
                yield call
                break


@in_module("API06")
def added_too_late(look: Look) -> Places:
    """A background task of a dependency that was left."""
    if not look.project.versions.at_least("fastapi", "0.118"):
        return
    for call, scope in look.calls("add_task"):
        if not scope.yields or not is_background(look, call, scope):
            continue
        given = [n for n in look.nodes(ast.Yield) if look.module.function(n) is scope]
        if min((line_of(node) for node in given), default=call.lineno) < call.lineno:
            yield call


@in_module("API07", "StreamingResponse", "EventSourceResponse")
def stream_holds_session(look: Look) -> Places:
    """A stream whose route was given a session."""
    if not look.project.versions.at_least("fastapi", "0.118"):
        return
    for call, scope in look.calls("StreamingResponse", "EventSourceResponse"):
        if not look.is_route(scope) or not look.name(call.func).startswith(STREAMS):
            continue
        if {"close", "aclose"} & {last_name(one.func) for one in scope.calls} or ends_early(scope):
            continue
        made = [look.inference.annotation(one, scope) for one in scope.parameters.values() if one]
        if any(is_session_type(one) for one in made):
            yield call


def ends_early(scope: Scope) -> bool:
    """Whether a dependency of the route is left before the response."""
    assert isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef)
    calls = [one for one in ast.walk(scope.node.args) if isinstance(one, ast.Call)]
    return any(constant(keyword(one, "scope")) == "function" for one in calls)

"""Rules about Celery tasks and calls of them."""

from __future__ import annotations

import ast

from checkkit.facts import FunctionFact
from checkkit.look import Look, catches
from checkkit.nodes import constant, is_open, keyword, last_name, number
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.scope import Scope

SENDING = ("delay", "apply_async", "send_task")


HELD = {
    "AsyncSession",
    "Session",
    "Request",
    "BackgroundTasks",
    "UploadFile",
    "AsyncConnection",
    "Connection",
}


def sends(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether a call sends a Celery task."""
    if not isinstance(call.func, ast.Attribute) or not look.project.uses("celery"):
        return False
    if is_sending(look.project, look.inference.target(call.func, scope)):
        return True
    value = call.func.value
    signed = isinstance(value, ast.Call) and last_name(value.func) in {"s", "si", "signature"}
    chained = isinstance(value, ast.Call) and look.name(value.func) in CANVAS
    return call.func.attr in SENDING and (signed or chained)


def is_sending(project: Project, target: str) -> bool:
    """Whether a dotted name sends a Celery task."""
    owner, _, last = target.rpartition(".")
    if last == "send_task":
        made = project.type_of(owner)
        return made.startswith("celery.") or "celery" in owner.lower()
    if last not in SENDING:
        return False
    return project.is_task_name(owner) or owner.startswith("celery.canvas") or owner in CANVAS


CANVAS = {"celery.chain", "celery.group", "celery.chord", "celery.signature"}


@in_module("CEL05", "apply_async", "retry", "set")
def too_far(look: Look) -> Places:
    """Countdowns beyond Redis' visibility timeout."""
    config = look.project.celery
    options = config.transport_options
    if config.scheme() != "redis" or options is None:
        return
    limit = options.get("visibility_timeout", 3600)
    if not isinstance(limit, int | float):
        return
    for call, scope in look.calls("apply_async", "retry", "set"):
        wait = number(keyword(call, "countdown"))
        if (
            wait is not None
            and wait >= limit
            and (last_name(call.func) != "apply_async" or sends(look, call, scope))
        ):
            yield call, f"{wait:g} s, and the visibility timeout is {limit:g} s"


@in_module("CEL09", *SENDING)
def sends_in_loop(look: Look) -> Places:
    """Sending a task blocks the event loop: by a signature, which only the tree shows."""
    for call, scope in look.calls(*SENDING):
        if scope.is_async and not is_sending(look.project, look.inference.target(call.func, scope)):
            if sends(look, call, scope):
                yield call


@in_project("CEL09")
def sends_in_loops(project: Project) -> Places:
    """Sending a task blocks the event loop, also in a plain function that is called there."""
    if not project.uses("celery") or project.called.isdisjoint(SENDING):
        return
    for function in project.functions.values():
        for call in function.calls if function.is_async else ():
            if is_sending(project, call.target):
                yield Note(function.path, call.line, call.column)
    for caller, call, helper in project.unawaited:
        if helper is not None and not is_sending(project, call.target):
            if told := sender(project, helper):
                yield Note(caller.path, call.line, call.column), told


def sender(project: Project, helper: FunctionFact) -> str:
    """Where a plain function of the project sends a task; empty when it does not."""
    if helper.name not in project.senders:
        sent = ((f, one) for f, one in project.through(helper) if is_sending(project, one.target))
        function, one = next(sent, (None, None))
        told = f"{function.name} sends it, {function.path}:{one.line}" if function and one else ""
        project.senders[helper.name] = told
    return project.senders[helper.name]


@in_module("CEL14")
def async_task(look: Look) -> Places:
    """A task whose body never runs."""
    if look.project.awaits_tasks:
        return
    for scope, decorator in look.tasks():
        own = isinstance(decorator, ast.Call) and (
            keyword(decorator, "base") is not None or is_open(decorator)
        )
        if scope.is_async and not own and "task_cls" not in look.project.celery.settings:
            yield scope.node


@in_module("CEL15")
def waits_for_task(look: Look) -> Places:
    """A task that waits for another one."""
    for scope, _ in look.tasks():
        for call in scope.calls:
            named = isinstance(call.func, ast.Attribute) and call.func.attr in {"get", "join"}
            if not named or constant(keyword(call, "disable_sync_subtasks")) is False:
                continue
            assert isinstance(call.func, ast.Attribute)
            value: ast.expr | None = call.func.value
            if isinstance(value, ast.Name):
                value = next(iter(scope.binds.get(value.id, ())), None)
            if isinstance(value, ast.Call) and (sends(look, value, scope) or is_result(look, value)):
                yield call


def is_result(look: Look, call: ast.Call) -> bool:
    """Whether it makes an `AsyncResult`."""
    return look.name(call.func) == "celery.result.AsyncResult"


@in_module("CEL16", "AsyncResult")
def result_as_store(look: Look) -> Places:
    """A route that answers with what Celery's backend says."""
    for call, scope in look.calls("AsyncResult"):
        made = look.name(call.func)
        known = made == "celery.result.AsyncResult" or look.inference.target(call.func, scope).startswith(
            "celery."
        )
        if look.is_route(scope) and (known or "celery" in made.lower()):
            yield call


@in_module("CEL19")
def held_arguments(look: Look) -> Places:
    """Parameters that cannot be sent."""
    for scope, decorator in look.tasks():
        parses = isinstance(decorator, ast.Call) and constant(keyword(decorator, "pydantic")) is True
        for name, annotation in scope.parameters.items():
            made = look.inference.annotation(annotation, scope)
            held = made.rpartition(".")[2] in HELD and made.startswith(("sqlalchemy", "fastapi", "starlette"))
            held |= not parses and look.project.is_model(made)
            if annotation is not None and (held or look.project.is_table(made)):
                yield annotation, f"{name}: {made.rpartition('.')[2]}"
    for call, scope in look.calls("delay", "apply_async"):
        for value in sent_values(call) if sends(look, call, scope) else ():
            made = look.type(value, scope)
            if isinstance(value, ast.Set | ast.SetComp):
                yield value, "a set is no JSON"
            elif look.project.is_table(made) or look.project.is_model(made):
                yield value, f"{made.rpartition('.')[2]} is no JSON"


def sent_values(call: ast.Call) -> list[ast.expr]:
    """The arguments that a call gives to its task."""
    if last_name(call.func) == "delay":
        return [*call.args, *(k.value for k in call.keywords)]
    args = keyword(call, "args") or (call.args[0] if call.args else None)
    named = keyword(call, "kwargs") or (call.args[1] if len(call.args) > 1 else None)
    values = list(args.elts) if isinstance(args, ast.Tuple | ast.List) else []
    return values + (list(named.values) if isinstance(named, ast.Dict) else [])


@in_module("CEL23")
def soft_limit_in_coroutine(look: Look) -> Places:
    """The soft limit is not raised where it is awaited."""
    for node in look.nodes(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        if catches(node, "SoftTimeLimitExceeded"):
            scope = look.module.function(node)
            if scope is not None and scope.is_async:
                yield node


@in_module("CEL25")
def callback_without_results(look: Look) -> Places:
    """A callback that lacks an argument, because it is given no results."""
    known = {scope.name: scope for scope, _ in look.tasks()}
    for call, _ in look.calls("chord"):
        if look.name(call.func) not in {"celery.chord", "celery.canvas.chord"}:
            continue
        around = look.module.parents.get(call)
        outer = around if isinstance(around, ast.Call) and around.func is call else call
        bodies = [*call.args[1:2], keyword(call, "body"), *(outer.args[:1] if outer is not call else ())]
        for body in bodies:
            if isinstance(body, ast.Call) and last_name(body.func) == "si" and not is_open(body):
                assert isinstance(body.func, ast.Attribute)
                task = known.get(last_name(body.func.value))
                if task is not None and lacks_arguments(task, body):
                    yield body


def lacks_arguments(task: Scope, call: ast.Call) -> bool:
    """Whether a parameter without a default is given nothing."""
    assert isinstance(task.node, ast.FunctionDef | ast.AsyncFunctionDef)
    rules = task.node.args
    names = [one.arg for one in (*rules.posonlyargs, *rules.args) if one.arg != "self"]
    needed = names[: len(names) - len(rules.defaults)]
    return bool(set(needed[len(call.args) :]) - {one.arg for one in call.keywords})

"""Rules about async code: loops, engines, sessions, tasks that nobody holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.facts import FunctionFact
from checkkit.look import Look, catches, is_session_type
from checkkit.project import Note, Project
from checkkit.rule import Places, in_module, in_project
from checkkit.syntax import (
    Scope,
    constant,
    dotted,
    inside,
    is_open,
    keyword,
    last_name,
    names_in,
)

BLOCKING = re.compile(
    r"^(time\.sleep|requests\.(get|post|put|patch|delete|head|options|request)"
    r"|requests\.(sessions\.)?[Ss]ession(\(\))?\.(get|post|put|patch|delete|head|request)"
    r"|urllib\.request\.(urlopen|urlretrieve)|httpx2?\.(get|post|put|patch|delete|head|request|stream)"
    r"|subprocess\.(run|call|check_call|check_output)|os\.system"
    r"|smtplib\.SMTP(_SSL)?(\(\))?\.(send_message|sendmail)|psycopg2\.connect"
    r"|httpx2?\.Client(\(\))?\.(get|post|put|patch|delete|request))$"
)
LOOPS = ("run", "run_until_complete")
SPAWN = ("create_task", "ensure_future")


@in_module("ASY01")
def engine_on_new_loops(look: Look) -> Places:
    """Tasks that start a new loop each, with connections of the loop before."""
    for scope, _ in look.tasks():
        for call in scope.calls:
            if last_name(call.func) not in LOOPS or not is_new_loop(look, call, scope):
                continue
            started = call.args[0] if call.args else None
            target = look.callee(started, scope) if isinstance(started, ast.Call) else None
            engine = pooled_engine(look.project, target) if target else ""
            if engine:
                yield call, f"it uses {engine}"


def is_new_loop(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether it runs a coroutine on a loop made in this function."""
    if look.name(call.func) in {"asyncio.run", "asgiref.sync.async_to_sync", "anyio.run"}:
        return True
    made = look.receiver(call, scope)
    local = dotted(call.func).partition(".")[0] in scope.binds
    return made == "asyncio.new_event_loop" and local


def pooled_engine(project: Project, start: FunctionFact) -> str:
    """The global engine, with a pool, that a function uses, itself or through others."""
    for function, call in project.reach(start):
        owner = project.canonical(call.target.removesuffix("()"))
        if "create_async_engine" in owner and not call.own and is_pooled(project, function):
            return f"the engine of {function.path}"
        for name in (owner, owner.rpartition(".")[0]):
            found = project.split(name)
            if found and engine_of(project, name):
                return name
    return ""


def is_pooled(project: Project, function: FunctionFact) -> bool:
    """Whether the function's module makes a pooled engine."""
    found = project.split(function.name)
    return found is not None and found[0].pooled


def engine_of(project: Project, name: str) -> bool:
    """Whether a global is a pooled async engine, or a session maker in a module that makes one."""
    found = project.split(name)
    if found is None or not found[0].pooled:
        return False
    made = found[0].types.get(found[1], "")
    return made.startswith("sqlalchemy") and made.endswith(("create_async_engine", "sessionmaker"))


@in_project("ASY02")
def sleeps(project: Project) -> Places:
    """`time.sleep` in async code."""
    yield from blocking(project, sleeping=True)


@in_project("ASY03")
def blocks(project: Project) -> Places:
    """Blocking calls in async code."""
    yield from blocking(project, sleeping=False)


def blocking(project: Project, *, sleeping: bool) -> Iterator[tuple[Note, str]]:
    """Blocking calls in coroutines, also through plain functions of the project."""
    for function in project.functions.values():
        for call in function.calls if function.is_async else ():
            if call.awaited:
                continue
            place = Note(function.path, call.line, call.column)
            if is_blocking(call.target, sleeping=sleeping):
                yield place, call.target
                continue
            helper = project.function(call.target)
            if helper is not None and not helper.is_async and not helper.yields:
                if told := blocking_helper(project, helper, sleeping=sleeping):
                    yield place, told


def blocking_helper(project: Project, helper: FunctionFact, *, sleeping: bool) -> str:
    """A blocking call in a plain function that a coroutine calls."""
    if project.is_task(helper):
        return ""
    for function, one in project.reach(helper, into=lambda _c, f: not f.is_async and not f.yields):
        if is_blocking(one.target, sleeping=sleeping):
            return f"{one.target} in {function.name}, {function.path}:{one.line}"
    return ""


def is_blocking(target: str, *, sleeping: bool) -> bool:
    """Whether a dotted name blocks."""
    return bool(BLOCKING.match(target)) and (target == "time.sleep") is sleeping


@in_module("ASY04")
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


@in_module("ASY05")
def shared_session(look: Look) -> Places:
    """One session in several tasks at once."""
    for call, scope in look.calls("gather"):
        if look.name(call.func) == "asyncio.gather" and shares(look, call, scope):
            yield call
    for call, scope in look.calls("create_task"):
        made = look.receiver(call, scope)
        if made in {"asyncio.TaskGroup", "anyio.create_task_group"} and look.in_loop(call, scope):
            for name in names_in(call):
                value = ast.Name(id=name, ctx=ast.Load())
                outside = name not in loop_names(look, call)
                if outside and session_outside(look, call, name) and look.is_session(value, scope):
                    yield call


def loop_names(look: Look, node: ast.AST) -> set[str]:
    """The names that the loops around a node give anew each time."""
    loops = [one for one in look.module.above(node) if isinstance(one, ast.For | ast.AsyncFor)]
    return {name for loop in loops for name in names_in(loop.target)}


def session_outside(look: Look, call: ast.Call, name: str) -> bool:
    """Whether the session was made outside the innermost loop around the call."""
    for parent in look.module.above(call):
        if isinstance(parent, ast.With | ast.AsyncWith):
            if any(i.optional_vars is not None and name in names_in(i.optional_vars) for i in parent.items):
                return False
        if isinstance(parent, ast.While | ast.For | ast.AsyncFor):
            return not any(
                isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Store)
                for one in inside(parent.body)
            )
    return False


def shares(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether two of the coroutines, or all of a comprehension, get the same session."""
    seen: set[str] = set()
    for argument in call.args:
        inner = argument.value if isinstance(argument, ast.Starred) else argument
        many = isinstance(inner, ast.ListComp | ast.GeneratorExp)
        body = inner.elt if isinstance(inner, ast.ListComp | ast.GeneratorExp) else inner
        made = {n for c in getattr(inner, "generators", []) for n in names_in(c.target)}
        for name in passed_names(body) - made:
            if look.is_session(ast.Name(id=name, ctx=ast.Load()), scope):
                if many or name in seen:
                    return True
                seen.add(name)
    return False


def passed_names(node: ast.expr) -> set[str]:
    """Names that a call gets as arguments, or whose method it is; attributes excepted."""
    if not isinstance(node, ast.Call):
        return set()
    values = [*node.args, *(k.value for k in node.keywords)]
    found = {v.id for v in values if isinstance(v, ast.Name)}
    func = node.func
    if isinstance(func, ast.Attribute):
        found |= passed_names(func.value) if isinstance(func.value, ast.Call) else set()
        if isinstance(func.value, ast.Name):
            found.add(func.value.id)
    return found


@in_module("ASY06")
def expires(look: Look) -> Places:
    """Attributes that need a query after the commit."""
    for call, _ in look.calls("async_sessionmaker"):
        if look.name(call.func).startswith("sqlalchemy.") and lacks_or_true(call):
            yield call
    for call, _ in look.calls("sessionmaker"):
        made = keyword(call, "class_")
        if made is not None and look.name(made).endswith(".AsyncSession") and lacks_or_true(call):
            yield call


def lacks_or_true(call: ast.Call) -> bool:
    """Whether `expire_on_commit` stays on."""
    value = keyword(call, "expire_on_commit")
    return not is_open(call) and (value is None or constant(value) is True)


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


@in_module("ASY08")
def task_of_dead_session(look: Look) -> Places:
    """A background task with the session of the request or of the block that ends."""
    for call, scope in look.calls(*SPAWN):
        started = call.args[0] if call.args else None
        if not isinstance(started, ast.Call) or not look.name(call.func).startswith("asyncio."):
            continue
        value = look.module.parents.get(call)
        if value is None or isinstance(value, ast.Await):
            continue
        for name in passed_names(started):
            annotated = scope.parameters.get(name)
            if (
                look.is_route(scope)
                and annotated is not None
                and is_session_type(look.inference.annotation(annotated, scope))
                and not awaited_later(scope, call, look)
            ):
                yield call


def awaited_later(scope: Scope, call: ast.Call, look: Look) -> bool:
    """Whether the function waits for the task that it made."""
    parent = look.module.parents.get(call)
    if not isinstance(parent, ast.Assign):
        kept = isinstance(parent, ast.Call) and last_name(parent.func) in {"add", "append"}
        return not (kept or isinstance(parent, ast.Expr))
    names = {dotted(target) for target in parent.targets}
    body = getattr(scope.node, "body", [])
    return any(
        (isinstance(one, ast.Await) and names & names_in(one.value))
        or (isinstance(one, ast.Return) and one.value is not None and names & names_in(one.value))
        for one in inside(list(body))
    )

"""Rules about database sessions in async code."""

from __future__ import annotations

import ast

from checkkit.look import Look, is_session_type
from checkkit.nodes import constant, dotted, inside, is_open, keyword, last_name, names_in
from checkkit.rule import Places, in_module
from checkkit.rules_asyncio import SPAWN
from checkkit.scope import Scope


@in_module("ASY05", "gather", "create_task")
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


@in_module("ASY06", "async_sessionmaker", "sessionmaker")
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


@in_module("ASY08", *SPAWN)
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

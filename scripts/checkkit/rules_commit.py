"""Rules about who commits, and when."""

from __future__ import annotations

import ast

from checkkit.look import Look
from checkkit.nodes import calls_in, last_name
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.rules_consumers import begins
from checkkit.rules_outbox import in_begin, is_commit
from checkkit.scope import Scope


@in_module("OUT05")
def commit_inside(look: Look) -> Places:
    """A commit inside somebody else's transaction."""
    if ".begin(" not in look.module.text:
        return
    for scope in look.module.scopes:
        for call in scope.calls if scope.is_function else ():
            if not in_begin(look, call, scope):
                continue
            if last_name(call.func) == "commit" and is_commit(look, call, scope):
                if goes_on(look, call, scope):
                    yield call
                continue
            where = commits_given(look, call, scope)
            if where:
                yield call, f"it commits in {where}"


def goes_on(look: Look, commit: ast.Call, scope: Scope) -> bool:
    """Whether anything is called behind a commit in the same transaction: there it fails."""
    for parent in look.module.above(commit):
        if isinstance(parent, ast.With | ast.AsyncWith) and begins(look, parent, scope):
            return any(call.lineno > commit.lineno for call in calls_in(parent.body))
    return False


def commits_given(look: Look, call: ast.Call, scope: Scope) -> str:
    """Where a function of the project commits the session that it is given."""
    callee = look.callee(call, scope)
    if callee is None or not hands_session(look, call, scope):
        return ""
    for function, one in look.project.reach(callee):
        owner, _, last = one.target.rpartition(".")
        session = owner.rpartition(".")[2].lower().removesuffix("()")
        known = "session" in session or session == "db"
        if last == "commit" and known and not one.own and not one.guarded:
            return f"{function.name}, {function.path}:{one.line}"
    return ""


def hands_session(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether a session is passed on: to the function, or to the object whose method it is."""
    passed = [*call.args, *(k.value for k in call.keywords)]
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    if isinstance(owner, ast.Name):
        owner = next((v for v in scope.binds.get(owner.id, []) if isinstance(v, ast.Call)), None)
    if isinstance(owner, ast.Call):
        passed += [*owner.args, *(k.value for k in owner.keywords)]
    return any(isinstance(p, ast.Name | ast.Attribute) and look.is_session(p, scope) for p in passed)


@in_module("API01")
def commits_after_response(look: Look) -> Places:
    """Dependencies that commit after their `yield`, and who uses them."""
    for scope in look.module.scopes:
        managed = any("contextmanager" in last_name(d) for d in scope.decorators)
        if scope.yields and scope.is_function and not managed and commits_late(look, scope):
            look.note("late commit", scope.node, f"{look.module.name}.{scope.name}".removeprefix("."))
    return
    yield


def commits_late(look: Look, scope: Scope) -> bool:
    """Whether the commit comes after the `yield`."""
    yields = [n for n in look.nodes(ast.Yield) if look.module.function(n) is scope]
    first = min((n.lineno for n in yields if isinstance(n, ast.Yield)), default=0)
    if any(
        last_name(c.func) == "commit" and c.lineno > first and is_commit(look, c, scope) for c in scope.calls
    ):
        return True
    for node in yields:
        for parent in look.module.above(node):
            if isinstance(parent, ast.With | ast.AsyncWith) and (
                begins(look, parent, scope) or enters(look, parent, scope)
            ):
                return True
    return False


def enters(look: Look, node: ast.With | ast.AsyncWith, scope: Scope) -> bool:
    """Whether a `with` is a context manager of the project that commits at its end."""
    for item in node.items:
        if isinstance(item.context_expr, ast.Call):
            callee = look.callee(item.context_expr, scope)
            if callee and callee.yields and any("contextmanager" in d for d in callee.decorators):
                names = [c.target.rpartition(".")[2] for c in callee.calls]
                if "commit" in names or "begin" in names:
                    return True
    return False


@in_project("API01")
def commits_after_response_in_project(project: Project) -> Places:
    """Where FastAPI is new enough to answer first."""
    if not project.versions.at_least("fastapi", "0.118"):
        return
    used = [project.canonical(name) for module in project.modules.values() for name in module.depends]
    for note in project.notes.get("late commit", []):
        count = used.count(str(note.value))
        if count:
            yield note, f"used {count} times without scope"

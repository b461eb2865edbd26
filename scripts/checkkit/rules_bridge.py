"""Rules about event loops: what blocks them, and what belongs to another one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.facts import FunctionFact
from checkkit.look import Look
from checkkit.nodes import dotted, last_name
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.scope import Scope

BLOCKING = re.compile(
    r"^(time\.sleep|requests\.(get|post|put|patch|delete|head|options|request)"
    r"|requests\.(sessions\.)?[Ss]ession(\(\))?\.(get|post|put|patch|delete|head|request)"
    r"|urllib\.request\.(urlopen|urlretrieve)|httpx2?\.(get|post|put|patch|delete|head|request|stream)"
    r"|subprocess\.(run|call|check_call|check_output)|os\.system"
    r"|smtplib\.SMTP(_SSL)?(\(\))?\.(send_message|sendmail)|psycopg2\.connect"
    r"|httpx2?\.Client(\(\))?\.(get|post|put|patch|delete|request))$"
)


SLEEP = 0  # of the two kinds of blocking calls
LOOPS = ("run", "run_until_complete")


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
    yield from blocking(project, SLEEP)


@in_project("ASY03")
def blocks(project: Project) -> Places:
    """Blocking calls in async code."""
    yield from blocking(project, 1 - SLEEP)


def blocking(project: Project, kind: int) -> Iterator[tuple[Note, str]]:
    """Blocking calls in coroutines, also through plain functions of the project."""
    for caller, call, helper in project.unawaited:
        if helper is not None:
            told = blockers(project, helper)[kind]
        else:
            told = call.target if BLOCKING.match(call.target) and is_kind(call.target, kind) else ""
        if told:
            yield Note(caller.path, call.line, call.column), told


def blockers(project: Project, helper: FunctionFact) -> tuple[str, str]:
    """The first `time.sleep`, and the first other blocking call, that a plain function comes to."""
    if helper.name not in project.blockers:
        found = ["", ""]
        for function, one in project.through(helper) if not project.is_task(helper) else ():
            if BLOCKING.match(one.target):
                kind = SLEEP if is_kind(one.target, SLEEP) else 1 - SLEEP
                found[kind] = found[kind] or f"{one.target} in {function.name}, {function.path}:{one.line}"
        project.blockers[helper.name] = found[0], found[1]
    return project.blockers[helper.name]


def is_kind(target: str, kind: int) -> bool:
    """Whether a blocking call is a sleep, or is none."""
    return (target == "time.sleep") is (kind == SLEEP)

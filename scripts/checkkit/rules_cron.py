"""Rules about APScheduler: where it runs, and what becomes of its jobs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.effects import effect_of
from checkkit.look import Look
from checkkit.nodes import constant, is_open, keyword, lacks, last_name, number, text_of
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.scope import Scope

ADD = ("add_job", "scheduled_job")


ASYNC_DRIVERS = re.compile(r"\+(asyncpg|aiosqlite|aiomysql|asyncmy|psycopg_async)\b")


def is_scheduler(made: str, kind: str = "") -> bool:
    """Whether a type is a scheduler of APScheduler 3."""
    return made.startswith("apscheduler.schedulers") and made.endswith(f"{kind}Scheduler")


def schedulers(look: Look) -> Iterator[tuple[ast.Call, Scope, str]]:
    """Where schedulers are made."""
    for kind in ("AsyncIOScheduler", "BackgroundScheduler", "BlockingScheduler"):
        for call, scope in look.calls(kind):
            if is_scheduler(look.name(call.func)):
                yield call, scope, kind


def jobs(look: Look) -> Iterator[tuple[ast.Call, Scope]]:
    """Where jobs are added to a scheduler."""
    for call, scope in look.calls(*ADD):
        made = look.receiver(call, scope)
        if is_scheduler(made):
            yield call, scope


def trigger(call: ast.Call) -> ast.expr | None:
    """The trigger of an added job."""
    at = 0 if last_name(call.func) == "scheduled_job" else 1
    return call.args[at] if len(call.args) > at else keyword(call, "trigger")


@in_module("CRON01")
def scheduler_in_api(look: Look) -> Places:
    """A scheduler that starts in every process of the API."""
    for scope in look.module.scopes:
        fact = look.fact(scope) if is_startup(scope, look) else None
        if fact is None:
            continue
        for function, call in look.project.reach(fact, into=lambda c, _f: not c.guarded):
            owner, _, last = call.target.rpartition(".")
            if last == "start" and not call.guarded and is_scheduler(look.project.type_of(owner)):
                place = Note(function.path, call.line, 1)
                look.project.notes.setdefault("scheduler in api", []).append(place)
    return
    yield  # it may stand in another module


@in_project("CRON01")
def scheduler_in_api_of_project(project: Project) -> Places:
    """Wherever it is started."""
    yield from project.notes.get("scheduler in api", [])


def is_startup(scope: Scope, look: Look) -> bool:
    """Whether FastAPI runs it in each of its processes."""
    names = [look.module.resolve(d.func if isinstance(d, ast.Call) else d) for d in scope.decorators]
    if any(name.rpartition(".")[2] == "on_event" for name in names):
        return True
    manages = any(name.rpartition(".")[2] == "asynccontextmanager" for name in names)
    return manages and ("lifespan" in scope.name.lower() or takes_app(scope))


def takes_app(scope: Scope) -> bool:
    """Whether a parameter is the FastAPI app."""
    return any(a is not None and last_name(a) in {"FastAPI", "Starlette"} for a in scope.parameters.values())


@in_module("CRON02")
def misfire(look: Look) -> Places:
    """Runs that are skipped when they are a second late."""
    for call, _, _ in schedulers(look):
        if not (keyword(call, "job_defaults") is None and not is_open(call) and not call.args):
            look.note("job_defaults", call)
    if "configure" in look.project.called:
        return
    for call, _ in jobs(look):
        if lacks(call, "misfire_grace_time") and trigger(call) is not None:
            look.note("misfire", call)
    return
    yield  # the project rule decides


@in_project("CRON02")
def misfire_in_project(project: Project) -> Places:
    """Nowhere a default either."""
    if not project.notes.get("job_defaults"):
        yield from project.notes.get("misfire", [])


@in_module("CRON03", "shutdown")
def shutdown_cancels(look: Look) -> Places:
    """`shutdown()` of the asyncio scheduler cancels what runs."""
    for call, scope in look.calls("shutdown"):
        if not is_scheduler(look.receiver(call, scope), "AsyncIO") or is_open(call):
            continue
        wait = constant(call.args[0] if call.args else keyword(call, "wait"))
        paused = any(
            last_name(c.func) in {"pause", "pause_job"} for c in scope.calls if c.lineno < call.lineno
        )
        if wait is True or (not call.args and keyword(call, "wait") is None and not paused):
            yield call


@in_module("CRON08", "SQLAlchemyJobStore", "RedisJobStore", "MongoDBJobStore", "add_jobstore", *ADD)
def no_stable_id(look: Look) -> Places:
    """Jobs that are added once more at every start."""
    for call, _ in look.calls("SQLAlchemyJobStore", "RedisJobStore", "MongoDBJobStore"):
        look.note("store", call)
    for call, _ in look.calls("add_jobstore"):
        if constant(call.args[0] if call.args else None) in {"sqlalchemy", "redis", "mongodb"}:
            look.note("store", call)
    for call, scope in jobs(look):
        fixed = scope.parent is None or not scope.parameters or is_startup(scope, look)
        kept = constant(keyword(call, "jobstore")) != "memory"
        repeated = constant(trigger(call)) in {"cron", "interval"} or isinstance(trigger(call), ast.Call)
        if fixed and kept and repeated and not look.is_route(scope) and not is_open(call):
            if lacks(call, "id") or lacks(call, "replace_existing"):
                look.note("no id", call)
    return
    yield  # the project rule decides


@in_project("CRON08")
def no_stable_id_in_project(project: Project) -> Places:
    """Only where a store keeps them."""
    if project.notes.get("store"):
        yield from project.notes.get("no id", [])


@in_module("CRON09", "SQLAlchemyJobStore", "add_jobstore")
def async_store(look: Look) -> Places:
    """A job store with a driver that it cannot use."""
    for call, _ in look.calls("SQLAlchemyJobStore"):
        url = text_of(keyword(call, "url") or (call.args[0] if call.args else None))
        if ASYNC_DRIVERS.search(url):
            yield call
        elif url.startswith("postgresql://") and look.project.versions.at_least("sqlalchemy", "2.1"):
            yield call, "with SQLAlchemy 2.1 this means psycopg 3; write the driver"
    for call, _ in look.calls("add_jobstore"):
        if ASYNC_DRIVERS.search(text_of(keyword(call, "url"))):
            yield call


@in_module("CRON10", *ADD)
def put_off(look: Look) -> Places:
    """An interval that starts anew at every deploy."""
    for call, scope in jobs(look):
        spans = {k.arg: number(k.value) for k in call.keywords}
        long = any(spans.get(unit) for unit in ("hours", "days", "weeks"))
        interval = constant(trigger(call)) == "interval"
        fixed = spans.keys() & {"start_date", "next_run_time"}
        again = constant(keyword(call, "replace_existing")) is True
        if interval and long and again and not fixed and not look.is_route(scope) and not is_open(call):
            yield call


@in_module("CRON11", "start")
def blocking_in_async(look: Look) -> Places:
    """A scheduler that never gives the loop back."""
    for call, scope in look.calls("start"):
        if scope.is_async and is_scheduler(look.receiver(call, scope), "Blocking"):
            yield call


@in_module("CRON14", *ADD)
def works_in_the_job(look: Look) -> Places:
    """Work that nobody makes up for when its process dies."""
    for call, scope in jobs(look):
        if last_name(call.func) == "add_job" and call.args:
            target = look.project.function(look.inference.target(call.args[0], scope))
        else:
            parent = look.module.parents.get(call)
            decorated = look.module.scope_of.get(parent) if parent is not None else None
            target = look.fact(decorated) if decorated is not None else None
        if told := effect_of(look.project, target):
            yield call, told

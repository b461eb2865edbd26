"""Rules about APScheduler, and about schedules of Celery."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.celery_config import Setting
from checkkit.look import Look
from checkkit.project import Note, Project
from checkkit.rule import Places, in_module, in_project
from checkkit.syntax import Scope, constant, is_open, keyword, lacks, last_name, number, text_of

ADD = ("add_job", "scheduled_job")
ASYNC_DRIVERS = re.compile(r"\+(asyncpg|aiosqlite|aiomysql|asyncmy|psycopg_async)\b")
TIMES = ("run_date", "next_run_time", "start_date", "end_date")


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


@in_module("CRON03")
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


@in_module("CRON04")
def numbers_of_days(look: Look) -> Places:
    """Digits for days of the week, which APScheduler counts from Monday."""
    for call, _ in look.calls("from_crontab"):
        if look.name(call.func).startswith("apscheduler.") and call.args:
            fields = text_of(call.args[0]).split()
            if len(fields) == 5 and re.search(r"\d", fields[4].partition("/")[0]):
                yield call
    for call, _ in look.calls("CronTrigger", *ADD):
        day = constant(keyword(call, "day_of_week"))
        if day == 7 or (isinstance(day, str) and re.search(r"(^|[,-])7", day)):
            yield call


@in_module("CRON05")
def every_minute(look: Look) -> Places:
    """`crontab(hour=3)` is due sixty times."""
    for call, _ in look.calls("crontab"):
        if not look.name(call.func).startswith("celery.") or call.args or not lacks(call, "minute"):
            continue
        given = {k.arg: constant(k.value) for k in call.keywords}
        if any(value != "*" for name, value in given.items() if name not in {"app", "nowfun"}):
            yield call


@in_module("CRON06")
def no_timezone(look: Look) -> Places:
    """Times of day without a time zone."""
    for call, _ in look.calls("CronTrigger", "from_crontab"):
        if look.name(call.func).startswith("apscheduler.triggers.cron") and lacks(call, "timezone"):
            if at_an_hour(call):
                yield call
    for call, scope in jobs(look):
        made = scheduler_call(look, call, scope)
        if constant(trigger(call)) == "cron" and lacks(call, "timezone") and made is not None:
            if lacks(made, "timezone") and not made.args and "configure" not in look.project.called:
                yield call


def at_an_hour(call: ast.Call) -> bool:
    """Whether a trigger without a zone is due at hours or days, and not every few minutes."""
    if last_name(call.func) == "from_crontab":
        fields = text_of(call.args[0] if call.args else None).split()
        return len(call.args) == 1 and len(fields) == 5 and set(fields[1:]) != {"*"}
    named = {k.arg for k in call.keywords if constant(k.value) != "*"}
    return not call.args and bool(named & {"hour", "day", "day_of_week", "week", "month", "year"})


def scheduler_call(look: Look, call: ast.Call, scope: Scope) -> ast.Call | None:
    """Where the scheduler that gets this job was made, if in this module."""
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return None
    for around in scope.chain:
        for value in around.binds.get(call.func.value.id, ()):
            return value if isinstance(value, ast.Call) and is_scheduler(look.name(value.func)) else None
    return None


@in_module("CRON07")
def naive_times(look: Look) -> Places:
    """A time without zone where another zone is assumed."""
    for call, _ in look.calls(*ADD, "DateTrigger", "IntervalTrigger", "CronTrigger"):
        for name in TIMES:
            value = keyword(call, name)
            if value is not None and "utcnow" in clock(value):
                yield value
    for call, _ in look.calls("apply_async", "signature", "retry"):
        value = keyword(call, "eta")
        if value is not None and "now" in clock(value) and look.project.uses("celery"):
            yield value


def clock(node: ast.expr) -> set[str]:
    """`utcnow` or a `now` without zone, if a time is made of one and nothing but durations."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and last_name(one.func) in {"replace", "astimezone", "localize"}:
            return set()
        if isinstance(one, ast.Call) and not one.args and not one.keywords:
            found.add(last_name(one.func))
    return found & {"utcnow", "now"}


@in_module("CRON08")
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


@in_module("CRON09")
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


@in_module("CRON10")
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


@in_module("CRON11")
def blocking_in_async(look: Look) -> Places:
    """A scheduler that never gives the loop back."""
    for call, scope in look.calls("start"):
        if scope.is_async and is_scheduler(look.receiver(call, scope), "Blocking"):
            yield call


@in_project("CRON12")
def beat_schedule(project: Project) -> Places:
    """Entries of beat that are no schedules."""
    for schedule in project.celery.settings.get("beat_schedule", []):
        yield from wrong_entries(schedule)


def wrong_entries(schedule: Setting) -> Iterator[Note]:
    """Entries whose `schedule` is a dict or a string."""
    if not isinstance(schedule.node, ast.Dict):
        return
    for entry in schedule.node.values:
        if not isinstance(entry, ast.Dict):
            continue
        for key, value in zip(entry.keys, entry.values, strict=True):
            if text_of(key) == "schedule" and (isinstance(value, ast.Dict) or text_of(value)):
                yield Note(schedule.path, value.lineno, value.col_offset + 1)

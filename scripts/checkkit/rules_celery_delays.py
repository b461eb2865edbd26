"""Rules about how long Celery's tasks run and wait, and who else counts the seconds."""

from __future__ import annotations

import ast

from checkkit.look import Look
from checkkit.nodes import constant, keyword, last_name, number
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.rules_celery import is_result, sends
from checkkit.rules_celery_retries import is_retry
from checkkit.rules_config import all_of, at

PATIENCE = 1800  # seconds that RabbitMQ waits for an acknowledgement, unless it is told otherwise
LIMITS = ("time_limit", "soft_time_limit")


@in_module("CEL26", "apply_async", "send_task")
def limit_of_the_caller(look: Look) -> Places:
    """A time limit that travels with the message."""
    for call, scope in look.calls("apply_async", "send_task"):
        given = [keyword(call, name) for name in LIMITS]
        if any(v is not None and constant(v) is not None for v in given) and sends(look, call, scope):
            yield call


@in_module("CEL27")
def longer_than_rabbitmq(look: Look) -> Places:
    """A task, or a wait, that RabbitMQ takes for dead."""
    if not impatient(look.project):
        return
    late = look.project.celery.value("task_acks_late") is True
    for _, decorator in look.tasks():
        if isinstance(decorator, ast.Call):
            acks = constant(keyword(decorator, "acks_late"))
            seconds = number(keyword(decorator, "time_limit"))
            if (acks is True or (late and acks is not False)) and seconds and seconds >= PATIENCE:
                yield decorator, f"it may take {seconds:g} s"
    for call, scope in look.calls("apply_async", "retry"):
        seconds = number(keyword(call, "countdown"))
        if seconds and seconds >= PATIENCE and (is_retry(look, call) or sends(look, call, scope)):
            yield call, f"it waits {seconds:g} s in the worker, unacknowledged"


@in_project("CEL27")
def limit_longer_than_rabbitmq(project: Project) -> Places:
    """The limit of all tasks."""
    limit = project.celery.get("task_time_limit")
    seconds = number(limit.node) if limit is not None else None
    if impatient(project) and project.celery.value("task_acks_late") is True:
        if limit is not None and seconds is not None and seconds >= PATIENCE:
            yield at(limit), f"a task may take {seconds:g} s"


def impatient(project: Project) -> bool:
    """Whether tasks come from a RabbitMQ whose patience was left as it is."""
    told = {"consumer_timeout", "consumer-timeout", "quorum"} & project.mentioned
    return project.celery.scheme() == "amqp" and not told


@in_module("CEL28")
def awaits_result(look: Look) -> Places:
    """Waiting for a result stops the event loop."""
    for scope in look.module.scopes:
        for call in scope.calls if scope.is_async else ():
            named = isinstance(call.func, ast.Attribute) and call.func.attr in {"get", "join", "wait"}
            if not named or call in look.module.awaited:
                continue
            assert isinstance(call.func, ast.Attribute)
            value: ast.expr | None = call.func.value
            if isinstance(value, ast.Name):
                value = next(iter(scope.binds.get(value.id, ())), None)
            if isinstance(value, ast.Call) and (sends(look, value, scope) or is_result(look, value)):
                yield call


@in_module("CEL29")
def delays(look: Look) -> Places:
    """Waits that CEL29 weighs when all modules are read."""
    for call, scope in look.calls("apply_async", "retry", "set"):
        given = keyword(call, "countdown") is not None or keyword(call, "eta") is not None
        if is_retry(look, call) or (given and (last_name(call.func) == "set" or sends(look, call, scope))):
            look.note("delay", call)
    for _, decorator in look.tasks():
        if isinstance(decorator, ast.Call) and keyword(decorator, "autoretry_for") is not None:
            look.note("delay", decorator)
    return
    yield


@in_project("CEL29")
def delays_on_quorum_queues(project: Project) -> Places:
    """A wait takes one of the worker's few places, because the broker cannot keep it."""
    config = project.celery
    if config.value("task_default_queue_type") != "quorum" or "task_queues" in config.settings or config.open:
        return
    if project.notes.get("delay") and config.value("task_default_exchange_type") in {None, "direct"}:
        yield from (at(one) for one in all_of(project, "task_default_queue_type"))


@in_project("CEL31")
def slow_lock(project: Project) -> Places:
    """A beat that takes over after 25 minutes."""
    for one in all_of(project, "beat_scheduler"):
        if isinstance(one.value, str) and "redbeat" in one.value.lower() and not project.celery.open:
            if not {"redbeat_lock_timeout", "beat_max_loop_interval"} & set(project.celery.settings):
                yield at(one)


@in_module("CEL34", "from_url", "Redis", "StrictRedis")
def clients(look: Look) -> Places:
    """Which Redis the project itself uses."""
    for call, _ in look.calls("from_url", "Redis", "StrictRedis"):
        address = keyword(call, "url") or (call.args[0] if call.args else None)
        if address is not None and look.name(call.func).startswith("redis."):
            look.note("redis address", call, ast.unparse(address))
    return
    yield


@in_project("CEL34")
def shared_redis(project: Project) -> Places:
    """One database for the queue and for something else."""
    options = project.celery.transport_options or {}
    if "global_keyprefix" in options:
        return
    brokers = {ast.unparse(one.node) for one in all_of(project, "broker_url") if one.node is not None}
    for note in project.notes.get("redis address", []):
        if note.value in brokers and project.celery.apps:
            yield Note(note.path, note.line, note.column), f"{note.value} is the broker's"

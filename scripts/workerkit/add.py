"""Adding a worker: from the command's options to the changes, what is left to do, and the remarks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from workerkit import advice, landing, readme_edit
from workerkit.brokers import IN_ORDER, ORDERED, Broker
from workerkit.consumer import SERVICE_SESSION, consumer
from workerkit.cron_job import CronJobOptions, cron_job
from workerkit.edits import Edits, edits
from workerkit.errors import TargetExistsError, UsageError
from workerkit.fit import Fit
from workerkit.imports import wrapped
from workerkit.kinds import CELERY_APP, CRON, DEAD_LETTERS, JOBS, LLM_BATCHES, RUNNER, Kind, last
from workerkit.llm_job import PROMPT, llm_job, read_prompt
from workerkit.migrations import read_migrations
from workerkit.new_migrations import new_migrations
from workerkit.plan import Change, Target, copies, decide, init_files
from workerkit.presence import check_relay
from workerkit.project import Project
from workerkit.record import after_adding
from workerkit.requirements import check_requirements
from workerkit.service import Service, read_service
from workerkit.signature import is_plain_name
from workerkit.source import Module
from workerkit.templates import closure, libraries, renamed, replaced, template
from workerkit.tracked_task import TaskOptions, tracked_task

# As in app.core.envelope, where it is explained.
TYPE = re.compile(r"[A-Za-z0-9_.-]{1,180}\.v[0-9]{1,6}")


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    kind: Kind
    broker: Broker
    name: str
    calls: str = ""
    prompt: str = ""
    type: str = ""
    cron: CronJobOptions = field(default_factory=CronJobOptions)
    task: TaskOptions = field(default_factory=TaskOptions)
    head: str | None = None
    extras: tuple[str, ...] = ()
    force: bool = False
    edit: bool = True
    """Whether existing files may be edited: dependencies, process lists, what creates the tables."""
    readme: bool = True
    """Whether README.md gets a line about the worker."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Addition:
    """What adding the worker means for the project."""

    project: Project
    options: Options
    type: str
    changes: list[Change]
    todo: list[str]
    remarks: list[str]

    @property
    def processes(self) -> dict[str, str]:
        """The processes that have to run, each with its command; the first one runs the worker."""
        if self.options.kind.is_router:
            return {}
        process = last(self.options.kind.process) or self.options.name
        other = {process: f"python -m {renamed(RUNNER, self.project.package)} {process}"}
        app = renamed(CELERY_APP, self.project.package)
        # Without it Celery takes SIGTERM for a wish to finish all tasks, however long.
        celery = {"celery": f"env REMAP_SIGTERM=SIGQUIT celery -A {app} worker --loglevel INFO"}
        if self.options.kind.is_batch_job:
            name = last(LLM_BATCHES)
            other = {name: f"python -m {renamed(RUNNER, self.project.package)} {name}"} | other
        return celery | other if self.options.kind.is_task else other

    @property
    def run(self) -> str:
        """The command that runs the worker; empty for what the API runs."""
        return next(iter(self.processes.values()), "")

    @property
    def dead_letters(self) -> str | None:
        """The command that shows what a worker has given up; None for one that gives nothing up."""
        kind = self.options.kind
        owner = last(kind.process) if kind.is_job else self.options.name
        command = f"python -m {renamed(DEAD_LETTERS, self.project.package)} {owner} list"
        return command if DEAD_LETTERS in kind.beside else None

    @property
    def history(self) -> str | None:
        """The command that shows the latest runs of a cron job; None for another worker."""
        command = f"python -m {renamed(CRON, self.project.package)} history {self.options.name}"
        return command if self.options.kind.is_cron_job else None

    @property
    def prove(self) -> str:
        """The command that proves it."""
        name = landing.test_name(self.options.kind, self.options.name)
        return f"python -m pytest {landing.shown(self.project)}/{name}"


def plan_addition(fit: Fit, options: Options) -> Addition:
    """Work out all that is to be done; nothing is written.

    Raises an AddWorkerError of the class that fits.
    """
    project, kind, broker = fit.project, options.kind, options.broker
    check_extras(options)
    modules = kind.modules(broker, options.extras)
    generated = {kind.worker} if kind.named else set()
    check_requirements(project, modules, but=generated, made=fit.made)
    if kind.needs_relay:
        check_relay(project, broker, force=options.force)
    shims = fit.shims()
    type_, service, own = "", None, []
    if kind.named:
        check_name(project, kind, options.name)
        service = read_service(project, options.calls, options.cron.values if kind.is_cron_job else None)
        type_ = "" if kind.is_cron_job else message_type(options, project)
        text = own_text(project, options, modules[kind.worker], type_, service)
        text = wrapped(text, project.line_length)
        own = [own_target(project, modules[kind.worker], text, options.name)]
        if renamed(SERVICE_SESSION, project.package) in text:
            modules |= closure([template(SERVICE_SESSION)])
    copied = [
        *copies(project, modules, but=generated),
        *landing.supports(project, kind, broker, options.name, test_words(options)),
    ]
    targets = [*own, *copied, *shims]
    targets += init_files(project, targets)
    alone = IN_ORDER in options.extras
    targets += [landing.test(project, kind, broker, options.name, test_words(options), alone=alone)]
    migrations = read_migrations(project)
    changes = decide(project, targets, force=options.force)
    changes += after_adding(project, changes, {target.path for target in copied})
    changes += new_migrations(project, migrations, kind.tables, options.now, options.head)
    addition = Addition(project, options, type_, changes, [], advice.remarks(project, kind, service, changes))
    used = libraries(modules.values()) | fit.libraries
    told = options.readme and addition.run  # what has no process of its own is no background worker
    readme = readme_edit.line(options.name, addition.processes.values(), addition.prove) if told else ""
    edited = edits(fit, broker, used, addition.processes, readme) if options.edit else Edits()
    todo = advice.left_to_do(
        project,
        kind,
        broker,
        used,
        extras=options.extras,
        has_alembic=migrations is not None,
        type_="" if options.type else type_,
        done=edited.done,
    )
    return replace(
        addition,
        changes=[*changes, *edited.changes],
        todo=[*edited.todo, *todo, *fit.todo()],
        remarks=[*fit.remarks(service), *addition.remarks],
    )


def test_words(options: Options) -> dict[str, str]:
    """What the worker's test says in place of the words of its template."""
    example = options.kind.example
    words = {example.calls: options.calls} if example is not None else {}
    return words | ({PROMPT: options.prompt} if options.kind.is_llm_job else {})


def check_extras(options: Options) -> None:
    """Raises UsageError for an extra that the broker has not."""
    known = options.broker.extras
    if options.extras and options.kind.is_task and not options.kind.is_tracked:
        raise UsageError(f"--with {options.extras[0]}: for jobs, not for plain tasks: --tracked")
    for extra in options.extras:
        if extra not in known:
            raise UsageError(f"--with {extra}: not for {options.broker.title}, which has {', '.join(known)}")


def own_text(project: Project, options: Options, template: Module, type_: str, service: Service) -> str:
    """The text of the worker's own file."""
    kind, name, package = options.kind, options.name, project.package
    if kind.is_cron_job:
        return cron_job(template, name, options.cron, service, package)
    if kind.is_llm_job:
        prompt = read_prompt(project, service, options.prompt)
        limits = options.task.limits
        return llm_job(template, name, type_, limits, service, prompt=prompt, package=package)
    if kind.is_tracked:
        return tracked_task(template, name, type_, options.task, service, package=package)
    text = consumer(template, name, type_, service, package)
    return replaced(text, ORDERED) if IN_ORDER in options.extras else text


def check_name(project: Project, kind: Kind, name: str) -> None:
    """Raises UsageError for a name that cannot be a module, TargetExistsError for one that is taken."""
    if not is_plain_name(name):
        raise UsageError(f"{name}: write a worker's name as a lower-case Python identifier: order_paid")
    workers = project.folder / "workers"
    if (
        kind.is_cron_job or kind.is_task or kind.is_llm_job
    ):  # folders of their own, whose modules that begin with _ are none
        if name.startswith("_"):
            raise UsageError(f"{name}: a job's or task's name does not begin with an underscore")
        if kind.is_task and name in {last(JOBS), "celery"}:
            raise TargetExistsError(f"{name}: the name is taken by what Celery's tasks share")
    elif name in {"run", "outbox_relay", "dead_letters"} or (workers / f"{name}.py").exists():
        raise TargetExistsError(f"{name}: the name is taken by a module of {project.shown(workers)}")


def message_type(options: Options, project: Project) -> str:
    """The type of the messages: as given, or made from the names of project and worker. Raises UsageError."""
    type_ = options.type or f"{project.name}.{options.name.replace('_', '.')}.v1"
    if TYPE.fullmatch(type_) is None:
        raise UsageError(f"--type {type_}: write it as <name>.v<number>, such as shop.order.paid.v1")
    return type_


def own_target(project: Project, template: Module, text: str, name: str) -> Target:
    """The worker's own file."""
    folder = renamed(template.name.rpartition(".")[0], project.package).split(".")
    return Target(project.import_root.joinpath(*folder) / f"{name}.py", text, "worker")

"""Which workers a project has, and which broker carries their messages."""

from __future__ import annotations

from collections.abc import Iterator

from workerkit.brokers import BROKERS, CELERY_REDIS, REDIS, Broker
from workerkit.errors import TargetExistsError, UsageError
from workerkit.kinds import ALL, RELAY, Kind
from workerkit.project import Project
from workerkit.templates import renamed


def present(project: Project) -> Iterator[tuple[Kind, Broker]]:
    """The kinds of workers in the project, each with its broker.

    A consumer's own file is the user's, so what tells is the module that runs it.
    """
    relay = relay_broker(project)
    for kind in ALL:
        for broker in kind.brokers:
            known = kind.known_by or broker.consumer
            if relay is broker if kind.worker == RELAY else has(project, known):
                yield kind, broker


def relay_broker(project: Project) -> Broker | None:
    """Where the project's relay sends to; None without a relay."""
    relay = project.module(renamed(RELAY, project.package))
    used = {import_.module for import_ in relay.imports} if relay is not None else set()
    brokers = (*BROKERS.values(), CELERY_REDIS)
    return next((b for b in brokers if renamed(b.adapter, project.package) in used), None)


def has(project: Project, template: str) -> bool:
    """Whether the project has a copy of this template."""
    return project.module(renamed(template, project.package)) is not None


def chosen(project: Project, kind: Kind, given: str | None) -> Broker:
    """The broker of a worker to add: as given, or that of the workers that are there, or else the first.

    Raises UsageError when the project has workers of several.
    """
    if given is not None:
        return next(broker for broker in kind.brokers if broker.name == given)
    if len(kind.brokers) == 1:
        return kind.brokers[0]
    if kind.is_task:
        return tested(project, kind)
    relay = relay_broker(project)
    if relay is not None:  # that to Celery is no broker of this kind; `check_relay` says what is wrong
        return relay if relay in kind.brokers else REDIS
    found = list({broker.name: broker for _, broker in present(project) if broker.consumer}.values())
    if len(found) > 1:
        raise UsageError(
            f"{kind.name}: the project uses {' and '.join(b.title for b in found)}: choose with --broker"
        )
    return found[0] if found else REDIS


def tested(project: Project, kind: Kind) -> Broker:
    """The broker that the project's tests have, or else the first: Celery's templates fit them all."""
    labs = [b for b in kind.brokers if all((project.tests / path).exists() for path in b.test_support)]
    return labs[0] if len(labs) == 1 else kind.brokers[0]


def check_relay(project: Project, broker: Broker, *, force: bool) -> None:
    """Raises TargetExistsError when the project has a relay that sends to another broker."""
    there = relay_broker(project)
    if there is not None and there.adapter != broker.adapter and not force:
        path = project.folder / "workers" / "outbox_relay.py"
        without = ", --tracked needs none" if broker.title == "Celery" else ""
        raise TargetExistsError(
            f"{project.shown(path)}: sends to {there.title}, and one outbox has one kind of relay{without}; "
            f"--force makes it send to {broker.title}"
        )

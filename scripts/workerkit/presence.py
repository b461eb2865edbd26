"""Which workers a project has, and which broker carries their messages."""

from __future__ import annotations

from collections.abc import Iterator

from workerkit.brokers import BROKERS, REDIS, Broker
from workerkit.errors import TargetExistsError, UsageError
from workerkit.kinds import KINDS, RELAY, Kind
from workerkit.project import Project
from workerkit.templates import renamed


def present(project: Project) -> Iterator[tuple[Kind, Broker]]:
    """The kinds of workers in the project, each with its broker.

    A consumer's own file is the user's, so what tells is the module that runs it.
    """
    relay = relay_broker(project)
    for kind in KINDS.values():
        for broker in kind.brokers:
            if has(project, kind.process or broker.consumer) if kind.named else relay is broker:
                yield kind, broker


def relay_broker(project: Project) -> Broker | None:
    """Where the project's relay sends to; None without a relay."""
    relay = project.module(renamed(RELAY, project.package))
    used = {import_.module for import_ in relay.imports} if relay is not None else set()
    return next((b for b in BROKERS.values() if renamed(b.adapter, project.package) in used), None)


def has(project: Project, template: str) -> bool:
    """Whether the project has a copy of this template."""
    return project.module(renamed(template, project.package)) is not None


def chosen(project: Project, kind: Kind, given: str | None) -> Broker:
    """The broker of a worker to add: as given, or that of the workers that are there, or else the first.

    Raises UsageError when the project has workers of several.
    """
    if given is not None:
        return BROKERS[given]
    if len(kind.brokers) == 1:
        return kind.brokers[0]
    relay = relay_broker(project)
    found = (
        [relay]
        if relay is not None
        else list({broker.name: broker for _, broker in present(project) if broker.consumer}.values())
    )
    if len(found) > 1:
        raise UsageError(
            f"{kind.name}: the project uses {' and '.join(b.title for b in found)}: choose with --broker"
        )
    return found[0] if found else REDIS


def check_relay(project: Project, broker: Broker, *, force: bool) -> None:
    """Raises TargetExistsError when the project has a relay that sends to another broker."""
    there = relay_broker(project)
    if there not in (None, broker) and not force:
        path = project.folder / "workers" / "outbox_relay.py"
        assert there is not None
        raise TargetExistsError(
            f"{project.shown(path)}: sends to {there.title}, and one outbox has one kind of relay; "
            f"--force makes it send to {broker.title}"
        )

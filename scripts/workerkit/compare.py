"""How the copies in a project differ from the current templates."""

from __future__ import annotations

from dataclasses import dataclass

from workerkit import landing
from workerkit.brokers import BROKERS, CELERY_REDIS, HTTP_LAB, LLM, LLM_BATCH, NO_BROKER, WEBHOOKS
from workerkit.consumer import SERVICE_SESSION
from workerkit.kinds import TEST_SUPPORT
from workerkit.plan import SAME, Change, Target, copies, decide_one
from workerkit.presence import has, present
from workerkit.project import Project
from workerkit.report import as_json
from workerkit.source import Module
from workerkit.templates import closure, template, text_of


@dataclass(frozen=True)
class Comparison:
    """The project's copies, each with the template that it came from."""

    project: Project
    changes: list[Change]

    @property
    def different(self) -> list[Change]:
        """Those that differ or are missing."""
        return [change for change in self.changes if change.state != SAME]

    def report(self, format_: str) -> str:
        """The report; state `new` means that the template is not in the project."""
        if format_ == "json":
            return as_json([self._facts(change) for change in self.changes])
        if not self.different:
            return f"{len(self.changes)} files, none differs"
        return "\n".join(change.diff(self.project).rstrip() for change in self.different)

    def _facts(self, change: Change) -> dict[str, object]:
        state = {"new": "missing", "replaced": "different"}.get(change.state, change.state)
        path = self.project.shown(change.target.path)
        diff = change.diff(self.project) if change.state != SAME else None
        return {"path": path, "role": change.target.role, "state": state, "diff": diff}


def compare(project: Project) -> Comparison:
    """Compare all copies."""
    return Comparison(project, [decide_one(project, target, force=True) for target in copied(project)])


def copied(project: Project) -> list[Target]:
    """What the workers of a project are made of. What belongs to the user, the consumers themselves and their
    tests, is left out.
    """
    workers = list(present(project))
    modules: dict[str, Module] = {}
    for kind, broker in workers:
        modules |= kind.modules(broker)
    modules |= closure(template(name) for name in extras() if has(project, name))
    own = {kind.worker for kind, _ in workers if kind.named}
    targets = [*copies(project, modules, but=own)]
    return targets + (support_targets(project) if workers else [])


def extras() -> set[str]:
    """The modules that land only when asked for."""
    brokers = (*BROKERS.values(), NO_BROKER, CELERY_REDIS, LLM)
    return {SERVICE_SESSION} | {n for broker in brokers for names in broker.extras.values() for n in names}


def support_targets(project: Project) -> list[Target]:
    """The tests' shared support, as far as the project has some."""
    labs = [broker.test_support for broker in (*BROKERS.values(), LLM, LLM_BATCH, WEBHOOKS)]
    there = [
        group
        for group in (TEST_SUPPORT, *labs)
        if any((project.tests / path).exists() for path in group if path != HTTP_LAB)
    ]
    return [
        Target(project.tests / path, landing.support(project, text_of(f"tests/{path}")), "test")
        for path in dict.fromkeys(path for group in there for path in group)
    ]

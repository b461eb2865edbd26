"""What was done, for people and for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from workerkit.add import Addition
from workerkit.kinds import KINDS, Kind
from workerkit.look_around import COMPOSE
from workerkit.plan import Change
from workerkit.process_edit import in_shell
from workerkit.record import version

CORE = "core"
ROLES = ("worker", CORE, "model", "migration", "test")


def as_json(value: object) -> str:
    """JSON for programs."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def added(addition: Addition, *, dry_run: bool, format_: str) -> str:
    """The report on an addition."""
    if format_ == "json":
        return as_json(facts(addition, dry_run=dry_run))
    return text(addition, dry_run=dry_run)


def facts(addition: Addition, *, dry_run: bool) -> dict[str, Any]:
    """All that the report says."""
    project, options = addition.project, addition.options
    return {
        "kind": options.kind.name,
        "broker": options.broker.name,
        "name": options.name,
        "package": project.package,
        "type": addition.type or None,
        "schedule": options.cron.shown if options.kind.is_cron_job else None,
        "dry_run": dry_run,
        "changed": any(change.writes for change in addition.changes),
        "files": [file_facts(addition, change) for change in addition.changes],
        "lines": line_counts(addition.changes),
        "environment": environment(addition),
        "todo": addition.todo,
        "remarks": addition.remarks,
        "run": addition.run,
        "procfile": "\n".join(procfile(addition)),
        "prove": addition.prove,
        "dead_letters": addition.dead_letters,
        "history": addition.history,
    }


def file_facts(addition: Addition, change: Change) -> dict[str, Any]:
    """One file of the report."""
    return {
        "path": addition.project.shown(change.target.path),
        "role": change.target.role,
        "state": change.state,
        "lines": change.lines,
        "diff": change.diff(addition.project) if change.shows else None,
    }


def line_counts(changes: list[Change]) -> dict[str, int]:
    """Lines written, by role."""
    counts = Counter[str]()
    for change in changes:
        if change.writes:
            counts[change.target.role] += change.lines
    return {role: counts[role] for role in ROLES if counts[role]}


def environment(addition: Addition) -> dict[str, str]:
    """The variables that a first deployment sets; all others have defaults that suit."""
    variables = dict(addition.options.broker.environment)
    if addition.options.kind.needs_relay:
        variables["OUTBOX_SOURCE"] = f"/{addition.project.name}"
    return variables


def procfile(addition: Addition) -> list[str]:
    """The lines that name the processes."""
    return [f"{name}: {in_shell(command)}" for name, command in addition.processes.items()]


def text(addition: Addition, *, dry_run: bool) -> str:
    """The report for people."""
    lines: list[str] = []
    options = addition.options
    written = [change for change in addition.changes if change.writes]
    rest = len(addition.changes) - len(written)
    if written:
        lines.append("would write" if dry_run else "wrote")
        lines += [file_line(addition, change) for change in written if not is_copy(change)]
        lines += copies(addition, written)
        counts = ", ".join(f"{role} {lines}" for role, lines in line_counts(addition.changes).items())
        lines.append(f"  {len(written)} files; lines: {counts}; {rest} files were there already")
        lines += [change.diff(addition.project).rstrip() for change in written if change.shows]
    else:
        lines.append(f"nothing to write: all {rest} files are there")
    if addition.type:
        place = options.broker.place(addition.type.rpartition(".")[0], options.name)
        what = (
            f"kind of job   {addition.type}"
            if options.kind.is_job
            else f"message type  {addition.type}   ({place})"
        )
        lines += ["", what]
    if options.kind.is_cron_job:
        lines += ["", f"due    {options.cron.shown}"]
    lines += ["", "left to do"]
    lines += [f"  - {step}" for step in addition.todo]
    lines += [f"  - set {name} (such as {value})" for name, value in environment(addition).items()]
    if not {change.target.path.name for change in addition.changes} & {"Procfile", *COMPOSE}:
        lines += [f"  - process, for example in a Procfile:  {line}" for line in procfile(addition)]
    lines += ["", *(f"run    {command}" for command in addition.processes.values())]
    lines.append(f"prove  {addition.prove}")
    if addition.dead_letters:
        lines.append(f"see    {addition.dead_letters}   (what was given up)")
    if addition.history:
        lines.append(f"see    {addition.history}   (what became of its runs)")
    return "\n".join(lines)


def file_line(addition: Addition, change: Change) -> str:
    """One written file."""
    replaced = f", {change.state}" if change.shows else ""
    path = addition.project.shown(change.target.path)
    return f"  {path:<58} {change.lines:>5} lines  {change.target.role}{replaced}"


def is_copy(change: Change) -> bool:
    """Whether a template landed that nobody has to edit, where nothing was."""
    return change.target.role == CORE and not change.shows


def copies(addition: Addition, written: list[Change]) -> Iterator[str]:
    """The written core files, by folder: they are not edited, so a reader needs no line for each."""
    folders: dict[str, list[Change]] = {}
    for change in written:
        if is_copy(change):
            folders.setdefault(addition.project.shown(change.target.path.parent), []).append(change)
    for folder, changes in folders.items():
        lines = sum(change.lines for change in changes)
        yield f"  {folder + '/':<40} {len(changes):>4} files {lines:>12} lines  copies"
    if folders:
        yield f"  the copies are the templates of {version()}, as `add_worker.py diff` shows: review the rest"


def kinds(format_: str) -> str:
    """The kinds of workers."""
    if format_ == "json":
        return as_json([kind_facts(kind) for kind in KINDS.values()])
    return "\n".join(f"{kind.name:<18} {kind.summary}" for kind in KINDS.values())


def kind_facts(kind: Kind) -> dict[str, Any]:
    """One kind of workers; `extras` are what --with takes, by broker."""
    return {
        "kind": kind.name,
        "summary": kind.summary,
        "named": kind.named,
        "extras": {broker.name: list(broker.extras) for broker in kind.brokers},
    }

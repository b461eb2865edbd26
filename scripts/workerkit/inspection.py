"""What `inspect` tells: what was found, and what could not be told, with the option that says it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workerkit.errors import AddWorkerError
from workerkit.fit import Fit
from workerkit.look import Place
from workerkit.report import as_json


def inspected(fit: Fit, format_: str) -> str:
    """The findings as text or JSON."""
    facts = findings(fit)
    return as_json(facts) if format_ == "json" else "\n".join(lines(facts))


def findings(fit: Fit) -> dict[str, Any]:
    """All that was found."""
    project, survey, around = fit.project, fit.survey, fit.survey.around
    return {
        "root": str(project.root),
        "package": project.source or None,
        "import_root": project.shown(project.import_root),
        "workers_land_in": project.package,
        "settings": settings_facts(fit),
        "sessions": session_facts(fit),
        "tables": table_facts(fit),
        "migrations": migration_facts(fit),
        "errors": [
            {"name": error.place.target, "place": place(fit, error.place), "suggests": error.meaning or None}
            for error in survey.errors
        ],
        "processes": around.processes,
        "dependencies": around.dependencies,
        "logging": around.logging,
        "workers": around.workers,
        "tests": around.tests,
        "unreadable": [project.shown(path) for path in survey.broken],
        "unclear": list(unclear(fit)),
    }


def settings_facts(fit: Fit) -> dict[str, Any]:
    """The settings."""
    found = fit.survey.settings
    return {
        "accesses": [
            {"form": a.form, "name": a.place.target, "class": a.of.place.target, "place": place(fit, a.place)}
            for a in found.accesses
        ],
        "classes": {
            c.place.target: {
                "names": c.style,
                "prefix": c.prefix,
                "env_file": c.env_file or None,
                "nested": sorted(n for n, t in c.fields.items() if t in found.models or t in found.classes),
            }
            for c in found.classes.values()
        },
        "database_variable": fit.survey.database_variable,
    }


def session_facts(fit: Fit) -> dict[str, Any]:
    """Engines and what gives sessions."""
    found = fit.survey.sessions
    return {
        "engines": [
            {"name": e.place.name or None, "async": e.is_async, "place": place(fit, e.place)}
            for e in found.engines
        ],
        "helpers": [
            {
                "name": h.place.target,
                "form": h.form,
                "async": h.is_async,
                "commits": "the caller" if not h.commits else "the helper",
                "needs": list(h.needs),
                "swallows_errors": h.swallows,
                "place": place(fit, h.place),
            }
            for h in found.helpers
        ],
        "sqlmodel": found.sqlmodel,
        "databases": sorted(found.dialects),
    }


def table_facts(fit: Fit) -> dict[str, Any]:
    """The base and who creates the tables."""
    found = fit.survey.tables
    return {
        "bases": [
            {
                "name": b.place.target,
                "plain": b.plain,
                "schema": b.schema or None,
                "place": place(fit, b.place),
            }
            for b in found.bases
        ],
        "sqlmodel": found.sqlmodel,
        "create_all": [place(fit, c.place) for c in found.creations],
    }


def migration_facts(fit: Fit) -> dict[str, Any]:
    """Alembic's history."""
    found = fit.survey.migrations
    if found is None:
        kind = "create_all" if fit.survey.tables.creations else "none"
        return {"kind": kind, "problem": fit.survey.migrations_problem or None}
    parents = {parent for revision in found.revisions for parent in revision.parents}
    heads = sorted(revision.id for revision in found.revisions if revision.id not in parents)
    return {
        "kind": "alembic",
        "folder": fit.project.shown(found.folder),
        "revisions": len(found.revisions),
        "heads": heads,
        "problem": None,
    }


def unclear(fit: Fit) -> Iterator[str]:
    """What could not be told, with the option that takes it."""
    if fit.made:
        for make in (fit.config, fit.database, fit.base):
            try:
                make()
            except AddWorkerError as error:
                yield str(error)
    if fit.survey.migrations is not None and len(migration_facts(fit)["heads"]) > 1:
        heads = ", ".join(migration_facts(fit)["heads"])
        yield f"migrations have several heads: {heads}; merge them, or choose with --head"
    if fit.survey.migrations_problem:
        yield fit.survey.migrations_problem
    if fit.survey.database_variable is None:
        yield "which variable holds the database's address; set DATABASE_VARIABLE in the tests' lab.py"


def place(fit: Fit, found: Place) -> str:
    """`file:line`."""
    return f"{fit.project.shown(found.path)}:{found.line}"


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The findings for people."""
    apart = facts["workers_land_in"] != facts["package"]
    why = "" if apart else ", built as the templates expect"
    yield f"package      {facts['package'] or '(none: single modules)'} in {facts['import_root']}{why}"
    yield f"workers      land in {facts['workers_land_in']}"
    for access in facts["settings"]["accesses"] or [None]:
        yield f"settings     {access['name']} ({access['form']})" if access else "settings     none found"
    for name, of in facts["settings"]["classes"].items():
        extra = [f"prefix {of['prefix']}"] * bool(of["prefix"]) + [
            f"nested {', '.join(of['nested'])}"
        ] * bool(of["nested"])
        yield f"             {name}: {', '.join([of['names'], *extra])}"
    yield f"database     {facts['settings']['database_variable'] or 'variable unclear'}; {databases(facts)}"
    for helper in facts["sessions"]["helpers"] or [None]:
        yield f"session      {helper_line(helper)}" if helper else "session      none found"
    for base in facts["tables"]["bases"]:
        yield f"base         {base['name']}" + (
            "" if base["plain"] else " (adds columns or methods to its models)"
        )
    if facts["tables"]["sqlmodel"]:
        yield "base         SQLModel"
    yield f"migrations   {migration_line(facts)}"
    for error in facts["errors"]:
        yield f"error        {error['name']}" + (f" ({error['suggests']}?)" if error["suggests"] else "")
    for name, processes in facts["processes"].items():
        yield f"processes    {name}: {', '.join(processes) or 'none'}"
    yield f"dependencies {', '.join(facts['dependencies']) or 'none found'}"
    yield f"logging      {', '.join(facts['logging']) or 'none set up'}"
    for engine, places in facts["workers"].items():
        yield f"background   {engine}: {', '.join(places)}"
    tests = facts["tests"]
    yield f"tests        {tests['folder']}: {tests['files']} files" + (
        "" if tests["exists"] else " (not there yet)"
    )
    yield from (f"unreadable   {path}" for path in facts["unreadable"])
    yield from (f"unclear      {text}" for text in facts["unclear"])


def databases(facts: dict[str, Any]) -> str:
    """The databases that addresses name."""
    return ", ".join(facts["sessions"]["databases"]) or "no address in the code"


def helper_line(helper: dict[str, Any]) -> str:
    """A session helper."""
    kind = "async" if helper["async"] else "sync"
    needs = f", needs {', '.join(helper['needs'])}" if helper["needs"] else ""
    swallows = ", swallows errors" if helper["swallows_errors"] else ""
    return f"{helper['name']} ({kind} {helper['form']}, {helper['commits']} commits{needs}{swallows})"


def migration_line(facts: dict[str, Any]) -> str:
    """The migrations, or what creates the tables."""
    found = facts["migrations"]
    if found["kind"] == "alembic":
        heads = ", ".join(found["heads"]) or "none"
        return f"Alembic in {found['folder']}: {found['revisions']} revisions, heads {heads}"
    creations = ", ".join(facts["tables"]["create_all"])
    return found["problem"] or (f"create_all in {creations}" if creations else "none")

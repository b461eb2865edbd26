"""Every kind of worker in every shape of project: it lands, reads well, and finds all that it imports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ledger
from support.shapes import SHAPES, Shape
from workerkit.home import open_fit
from workerkit.migrations import read_migrations
from workerkit.project import Project
from workerkit.source import find_module, read_module

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
NIGHTLY = ("--schedule", "30 2 * * *", "--timezone", "UTC", "--set", "day=yesterday")
KINDS: dict[str, tuple[str, ...]] = {
    "redis-consumer": ("redis-consumer", "order_paid"),
    "rabbitmq-consumer": ("rabbitmq-consumer", "order_placed"),
    "outbox-relay": ("outbox-relay", "--broker", "redis"),
    "cron-job": ("cron-job", "sales_report", *NIGHTLY),
    "celery-task": ("celery-task", "invoice_email"),
    "celery-task --tracked": ("celery-task", "process_payment", "--tracked"),
    "llm-job": ("llm-job", "summarise", "--prompt", "what_is_asked"),
    "llm-job --batch": ("llm-job", "overnight", "--prompt", "what_is_asked", "--batch"),
    "webhook-sender": ("webhook-sender",),
    "webhook-receiver": ("webhook-receiver",),
}
WITHOUT_A_SERVICE = ("outbox-relay", "webhook-sender", "webhook-receiver")
# What one project can have at once; a plain Celery task wants the relay for itself.
TOGETHER = [name for name in KINDS if name != "celery-task"]
FITTING = [shape for shape in SHAPES.values() if not shape.refusal]


def add(script: Script, shape: Shape, project: Path, kind: str, *options: str) -> Any:
    """Add a worker of a kind."""
    command, *rest = KINDS[kind]
    answered = shape.calls.replace("mark_paid", "store_answer")
    own = {"cron-job": shape.daily, "llm-job": answered, "llm-job --batch": answered}
    calls = () if kind in WITHOUT_A_SERVICE else ("--calls", own.get(kind, shape.calls))
    return script(command, *rest, *calls, "--project", project, *shape.options, *options)


def with_questions(project: Path) -> Path:
    """The project, whose service has two functions more, beside `mark_paid` and as that one: what a model is
    asked, and what its answer goes to.
    """
    head = re.compile(
        r"^( *)((?:async )?def )mark_paid\((.*?)(?:, reference: str)?\) -> None:$", re.MULTILINE
    )
    for path in project.rglob("*.py"):
        if found := head.search(text := path.read_text()):
            indent, define, parameters = found.groups()
            added = (
                f'{indent}{define}what_is_asked({parameters}) -> str:\n{indent}    return "How much?"\n\n'
                f"{indent}{define}store_answer({parameters}, answer: str) -> None:\n{indent}    ...\n\n"
            )
            path.write_text(text[: found.start()] + added + text[found.start() :])
    return project


def unresolved(project: Project, folder: Path) -> Iterator[str]:
    """What modules below a folder import from the project and do not find there."""
    for path in folder.rglob("*.py"):
        module = read_module(".".join(path.relative_to(project.import_root).with_suffix("").parts), path)
        for found in module.imports:
            top = found.module.partition(".")[0]
            if not ((project.import_root / top).is_dir() or (project.import_root / f"{top}.py").is_file()):
                continue
            source = find_module(project.import_root, found.module)
            inner = project.import_root.joinpath(*found.module.split("."), *found.name.split("."))
            known = source is not None and (not found.name or found.name in source.top_level)
            if not known and not inner.with_suffix(".py").is_file() and not inner.is_dir():
                yield f"{path}: {found.module} {found.name}"


def heads(project: Project) -> int:
    """How many ends the migrations have."""
    migrations = read_migrations(project)
    if migrations is None:
        return 1
    parents = {parent for revision in migrations.revisions for parent in revision.parents}
    return sum(revision.id not in parents for revision in migrations.revisions)


def ruff(folder: Path) -> str:
    """What the linter says of a tree, each project with settings of its own."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("shape", FITTING, ids=lambda shape: shape.name)
def test_every_kind_fits(shape: Shape, script: Script, tree: Tree, tmp_path: Path) -> None:
    fitting = []
    for number, kind in enumerate(KINDS):
        # Given a fresh project, when a worker is added
        project = with_questions(shape.build(tmp_path / str(number)))
        added = add(script, shape, project, kind, "--format", "json")
        assert added.code == 0, f"{kind}: {added.err}"

        # Then it landed where it should, compiles and finds what it imports
        fit = open_fit(project)
        assert added.data["package"] == fit.project.package == shape.home
        for name, text in tree(project).items():
            if name.endswith(".py"):
                compile(text, name, "exec")
        assert list(unresolved(fit.project, fit.project.folder)) == []
        assert heads(fit.project) == shape.heads

        # And a second run changes nothing, and the copies are the templates
        once = tree(project)
        again = add(script, shape, project, kind, "--format", "json")
        assert (again.code, again.data["changed"]) == (0, False), again.err
        assert tree(project) == once
        assert script("diff", "--project", project).code == 0
        fitting.append(kind)
    assert ruff(tmp_path) == ""
    ledger.adopt([f"SHAPE  {shape.name:<18} {len(fitting)} of {len(KINDS)} kinds: {', '.join(fitting)}"])


IMPORT_ALL = """
import importlib, sys
from pathlib import Path
from sqlalchemy import create_mock_engine
from sqlalchemy.orm import configure_mappers

home, folder = sys.argv[1], Path(sys.argv[2])
importlib.import_module(f"{home}.tables" if (folder / "tables.py").exists() else f"{home}.models.job")
for path in folder.rglob("*.py"):
    if path.name != "__init__.py":
        importlib.import_module(".".join([home, *path.relative_to(folder).with_suffix("").parts]))
configure_mappers()
base = importlib.import_module(f"{home}.models.base").Base
made = []
engine = create_mock_engine("postgresql://", lambda statement, *_, **__: made.append(str(statement)))
base.metadata.create_all(engine, checkfirst=False)
print("\\n".join(made))
"""


@pytest.mark.slow
@pytest.mark.parametrize("shape", [shape for shape in FITTING if shape.runs], ids=lambda shape: shape.name)
def test_all_kinds_live_in_one_project(
    shape: Shape, script: Script, tmp_path: Path, types_cache: Path
) -> None:
    # Given a project with a worker of each kind, added from the last to the first
    project = with_questions(shape.build(tmp_path / "project"))
    options = shape.options
    for kind in reversed(TOGETHER):
        added = add(script, shape, project, kind)
        if "several heads" in added.err or "no head" in added.err:  # the chosen head has moved on
            migrations = read_migrations(open_fit(project).project)
            assert migrations is not None
            newest = max(revision.id for revision in migrations.revisions if revision.id[0].isdigit())
            added = add(script, shape, project, kind, "--head", newest)
        assert added.code == 0, f"{kind} {options}: {added.err}"
    fit = open_fit(project)
    assert script("diff", "--project", project).code == 0

    # When all modules are imported
    root = fit.project.import_root
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL, shape.home, str(fit.project.folder)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )

    # Then they fit together, and their tables have the columns that the workers' SQL names and no others
    assert done.returncode == 0, done.stderr
    tables = dict(re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", done.stdout, re.DOTALL))
    assert {"inbox_message", "outbox_message", "cron_run", "job", "dead_letter"} <= tables.keys()
    columns = {line.split()[0] for line in tables["inbox_message"].strip().splitlines()}
    assert columns == {"consumer", "message_id", "received_at", "CONSTRAINT", "PRIMARY"} & columns
    assert {"consumer", "message_id", "received_at"} <= columns

    # And the type checker finds nothing where the project has one
    if "mypy" in fit.project.pyproject.get("tool", {}):
        typed = mypy(project, fit.project.own_folder, types_cache)
        assert typed.startswith("Success: no issues found in 1"), typed  # in more than 100 files
        ledger.adopt([f"MYPY   {shape.name:<18} {typed.strip()}"])


@pytest.fixture(scope="session")
def types_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the libraries, once for all projects."""
    return tmp_path_factory.mktemp("mypy")


def mypy(project: Path, folder: Path, cache: Path) -> str:
    """What the type checker says, by the project's own settings."""
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), str(folder)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout


def at(facts: Any, path: str) -> Any:
    """The value at a path of keys, of which one may have dots in it."""
    if not path:
        return facts
    if isinstance(facts, list):
        first, _, rest = path.partition(".")
        return at(facts[int(first)], rest)
    key = max((key for key in facts if path == key or path.startswith(f"{key}.")), key=len)
    return at(facts[key], path[len(key) + 1 :])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_inspect_tells_what_is_there(shape: Shape, script: Script, tree: Tree, tmp_path: Path) -> None:
    project = shape.build(tmp_path / "project")
    before = tree(project)

    shown = script("inspect", "--project", project, "--format", "json")
    text = script("inspect", "--project", project)

    assert (shown.code, text.code) == (0, 0), shown.err
    assert {path: at(shown.data, path) for path in shape.facts} == shape.facts
    assert shown.data["workers_land_in"] == shape.home
    assert shape.home in text.out
    assert tree(project) == before


def test_project_without_a_database_is_refused(script: Script, tree: Tree, tmp_path: Path) -> None:
    shape = SHAPES["no-database"]
    for kind in KINDS:
        project = shape.build(tmp_path / "project")
        before = tree(project)

        added = add(script, shape, project, kind)

        assert added.code == shape.refusal, kind
        assert "no database session" in added.err
        assert "--session module:name" in added.err
        assert len(added.err.splitlines()) == 1
        assert tree(project) == before
        shutil.rmtree(project)

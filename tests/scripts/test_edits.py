"""Edits of files that a project has: small, shown, made where they are certain, else said in words."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.shapes import SHAPES
from workerkit.toml_edit import with_entries, with_items

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
DEPENDENCIES = ("project", "dependencies")
SYNC = "from sqlalchemy.orm import Session\n\n\n"
ASYNC = "from sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
TABLE = "from sqlmodel import Session, SQLModel\n\n\nclass A(SQLModel, table=True): ...\n\n\n"


@pytest.fixture
def add_to(script: Script, tmp_path: Path) -> Script:
    """Builds a shape, if it is not there, and adds a consumer to it."""

    def add(name: str, *options: str, worker: str = "order_paid") -> Any:
        shape = SHAPES[name]
        project = tmp_path / name
        if not project.exists():
            shape.build(project)
        return script("redis-consumer", worker, "--calls", shape.calls, "--project", project, *options)

    return add


def test_dry_run_shows_edits_as_a_diff_and_writes_nothing(add_to: Script, tree: Tree, tmp_path: Path) -> None:
    before = tree(SHAPES["async-src"].build(tmp_path / "async-src"))

    shown = add_to("async-src", "--dry-run")

    assert tree(tmp_path / "async-src") == before
    assert "--- Procfile (before)\n+++ Procfile (after)\n" in shown.out
    assert "+order_paid: exec python -m acme.background.workers.run order_paid\n" in shown.out
    assert '+    "redis[hiredis]>=8.1",\n' in shown.out
    assert "+from acme.background import tables" in shown.out


def test_edits_add_lines_and_change_nothing_else(add_to: Script, tree: Tree, tmp_path: Path) -> None:
    before = tree(SHAPES["async-src"].build(tmp_path / "async-src"))

    add_to("async-src")

    after = tree(tmp_path / "async-src")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"Procfile", "migrations/env.py", "pyproject.toml"}
    assert after["Procfile"].startswith(before["Procfile"])
    old, new = (
        tomllib.loads(text["pyproject.toml"])["project"].pop("dependencies") for text in (before, after)
    )
    assert new[: len(old)] == old
    assert all(">=" in requirement for requirement in new[len(old) :])


def test_second_worker_adds_its_process_only(add_to: Script, tree: Tree, tmp_path: Path) -> None:
    add_to("async-src")
    before = tree(tmp_path / "async-src")

    again = add_to("async-src", worker="order_again")

    assert again.code == 0, again.err
    after = tree(tmp_path / "async-src")
    assert {name for name in before if before[name] != after[name]} == {"Procfile"}
    assert after["Procfile"].endswith("order_again: exec python -m acme.background.workers.run order_again\n")


def test_no_edit_says_what_to_do_instead(add_to: Script, tree: Tree, tmp_path: Path) -> None:
    before = tree(SHAPES["async-src"].build(tmp_path / "async-src"))

    added = add_to("async-src", "--no-edit", "--format", "json")

    after = tree(tmp_path / "async-src")
    assert {name: after[name] for name in before} == before
    assert any("redis[hiredis]>=8.1" in step for step in added.data["todo"])


def test_tables_are_known_before_they_are_created(add_to: Script, tmp_path: Path) -> None:
    add_to("create-all")

    lines = (tmp_path / "create-all/server/app/init_db.py").read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if "create_all" in line)
    assert lines[number - 2].startswith("        from app.background import tables  # noqa")


def test_lock_file_is_named(add_to: Script) -> None:
    assert any(step.startswith("uv lock") for step in add_to("create-all", "--format", "json").data["todo"])


def test_compiled_requirements_are_left_to_their_source(add_to: Script, tree: Tree, tmp_path: Path) -> None:
    before = tree(SHAPES["celery-sync"].build(tmp_path / "celery-sync"))

    added = add_to("celery-sync", "--format", "json")

    after = tree(tmp_path / "celery-sync")
    assert after["requirements.txt"] == before["requirements.txt"]
    assert after["requirements.in"].startswith(before["requirements.in"])
    assert any("compile requirements.in" in step for step in added.data["todo"])


@pytest.mark.parametrize(
    ("name", "content"),
    [("Procfile", b"web: uvicorn\r\n"), ("Procfile", b"web: \xff\n")],
)
def test_files_of_another_kind_are_left_alone(
    add_to: Script, tmp_path: Path, name: str, content: bytes
) -> None:
    path = SHAPES["async-src"].build(tmp_path / "async-src") / name
    path.write_bytes(content)

    added = add_to("async-src")

    assert added.code == 0, added.err
    assert path.read_bytes() == content
    assert "order_paid: exec python -m acme.background.workers.run order_paid" in added.out


OTHER = "# Acme\n\nAn API.\n"
LATER = "\n## License\n\nNone.\n"


def test_readme_gets_one_section_for_all_workers(add_to: Script, tmp_path: Path) -> None:
    readme = SHAPES["async-src"].build(tmp_path / "async-src") / "README.md"
    readme.write_text(OTHER)

    shown = add_to("async-src", "--dry-run")
    add_to("async-src")
    first = readme.read_text()
    readme.write_text(first + LATER)
    add_to("async-src", worker="order_again")
    add_to("async-src", worker="order_again")

    assert "+## Background workers\n" in shown.out
    line = "- `{0}`: run `python -m acme.background.workers.run {0}`, prove `python -m pytest tests/workers/"
    assert first.startswith(f"{OTHER}\n## Background workers\n\n")
    assert first.count(line.format("order_paid")) == 1
    both = f"{first}{line.format('order_again')}test_worker_order_again.py`\n"
    assert readme.read_text() == both + LATER


def test_readme_that_somebody_has_edited_is_left_alone(add_to: Script, tmp_path: Path) -> None:
    readme = SHAPES["async-src"].build(tmp_path / "async-src") / "README.md"
    readme.write_text(OTHER + "\n## Background workers\n\nAsk Ann.\n" + LATER)
    before = readme.read_text()

    added = add_to("async-src", "--format", "json")

    assert readme.read_text() == before
    assert any(
        step.startswith("in README.md, Background workers: - `order_paid`") for step in added.data["todo"]
    )


@pytest.mark.parametrize("option", ["--no-readme", "--no-edit"])
def test_readme_is_left_alone_when_asked(add_to: Script, tmp_path: Path, option: str) -> None:
    readme = SHAPES["async-src"].build(tmp_path / "async-src") / "README.md"
    readme.write_text(OTHER)

    added = add_to("async-src", option, "--format", "json")

    assert readme.read_text() == OTHER
    assert not any("README" in step for step in added.data["todo"])


@pytest.mark.parametrize(
    "text",
    [
        '[project]\ndependencies = ["a>=1"]\n',
        "[project]\ndependencies = []\n",
        '[project]\ndependencies = [\n    "a>=1",  # why\n    "b[x]>=2"  # the last\n]\n[tool.x]\ny = 1\n',
        "[project]\ndependencies = [\n]\n",
        '[project]\nname = "x"\ndependencies = ["a",]\n',
    ],
)
def test_arrays_get_items_whatever_they_look_like(text: str) -> None:
    edited = with_items(text, DEPENDENCIES, ["new>=1"])

    assert edited is not None
    before, after = tomllib.loads(text), tomllib.loads(edited)
    assert after["project"]["dependencies"] == [*before["project"].pop("dependencies"), "new>=1"]
    after["project"].pop("dependencies")
    assert after == before


@pytest.mark.parametrize(
    "text",
    [
        'project.dependencies = ["a"]\n',
        '[project]\n"dependencies" = ["a"]\n',
        '[other]\ndependencies = ["a"]\n[project]\nname = "x"\ndynamic = ["dependencies"]\n',
    ],
)
def test_what_is_written_in_another_way_is_left_alone(text: str) -> None:
    assert with_items(text, DEPENDENCIES, ["new>=1"]) is None


def test_entries_go_to_the_end_of_their_table() -> None:
    text = '[tool.poetry.dependencies]\npython = "^3.11"\n\n[tool.other]\nx = 1\n'

    edited = with_entries(text, ("tool", "poetry", "dependencies"), {"redis": {"version": ">=8"}, "b": ">=1"})

    assert edited is not None
    assert edited.startswith(
        '[tool.poetry.dependencies]\npython = "^3.11"\nredis = {version = ">=8"}\nb = ">=1"\n\n'
    )


# -- what cannot be told, and bad input ----------------------------------------------------------------------


def refused(run: Any, code: int, *texts: str) -> None:
    """One line of error and the right exit code."""
    assert run.code == code, (run.code, run.err)
    assert len(run.err.splitlines()) == 1
    for text in texts:
        assert text in run.err


def test_several_packages_are_listed(script: Script, tmp_path: Path) -> None:
    for name in ("api", "admin"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "main.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n")

    refused(script("inspect", "--project", tmp_path), 3, "admin, api", "--package")
    assert script("inspect", "--project", tmp_path, "--package", "api").code == 0


def test_several_sessions_are_listed_and_one_can_be_chosen(script: Script, tmp_path: Path) -> None:
    shape = SHAPES["flat-module"]
    main = shape.build(tmp_path / "flat") / "main.py"
    main.write_text(main.read_text() + "\n\nReading = async_sessionmaker(engine)\n")
    add = ("outbox-relay", "--project", tmp_path / "flat")

    refused(script(*add), 3, "main:Session, main:Reading", "--session")
    refused(script(*add, "--session", "nothing"), 3, "main:Reading")
    assert script(*add, "--session", "main:Session").code == 0
    assert "main import Session" in (tmp_path / "flat/background/core/database.py").read_text()


def test_broken_module_where_its_contents_matter(script: Script, tree: Tree, tmp_path: Path) -> None:
    project = SHAPES["async-src"].build(tmp_path / "x")
    (project / "src/acme/db/session.py").write_text("def broken(:\n")
    before = tree(project)

    refused(script("outbox-relay", "--project", project), 3, "src/acme/db/session.py", "not valid Python")
    assert tree(project) == before
    assert "session.py" in script("inspect", "--project", project).out


def test_link_out_of_the_project(script: Script, tree: Tree, shop: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (shop / "app" / "workers").symlink_to(outside)
    before = tree(shop)

    refused(script("outbox-relay", "--project", shop), 5, "symbolic link leads out of the project")
    assert list(outside.iterdir()) == []
    assert tree(shop) == before


def test_links_in_a_circle_end(script: Script, tmp_path: Path) -> None:
    project = SHAPES["flat-module"].build(tmp_path / "flat")
    (project / "again").symlink_to(project)

    assert script("inspect", "--project", project).code == 0


def test_home_that_is_something_else(script: Script, tmp_path: Path) -> None:
    project = SHAPES["async-src"].build(tmp_path / "x")
    (project / "src/acme/background.py").write_text("def later(): ...\n")

    refused(script("outbox-relay", "--project", project), 5, "background.py", "--home")
    assert script("outbox-relay", "--project", project, "--home", "acme.chores").code == 0
    assert (project / "src/acme/chores/workers/outbox_relay.py").is_file()


def test_core_file_of_the_project_stays_when_workers_live_apart(
    script: Script, shop: Path, add_consumer: Script
) -> None:
    health = shop / "app" / "core" / "health.py"
    health.write_text("def ping(): ...\n")

    refused(add_consumer(shop), 5, "--home")
    apart = add_consumer(shop, "--home", "app.background")

    assert apart.code == 0, apart.err
    assert health.read_text() == "def ping(): ...\n"
    assert (shop / "app" / "background" / "core" / "health.py").is_file()


@pytest.mark.parametrize(
    ("source", "calls", "code", "text"),
    [
        ("class A:\n    class B:\n        pass\n", "A.B.run", 2, "write package.module:Class.method"),
        (f"{SYNC}async def run(session: Session) -> None: ...\n", "run", 4, "session is a Session"),
        (f"{ASYNC}def run(session: AsyncSession) -> None: ...\n", "run", 4, "is a `def`"),
        (f"{TABLE}def run(session: Session, a: A) -> None: ...\n", "run", 4, "database model"),
    ],
)
def test_services_that_cannot_be_called(
    service: Callable[[str], Path],
    shop: Path,
    add_consumer: Script,
    *,
    source: str,
    calls: str,
    code: int,
    text: str,
) -> None:
    service(source)

    refused(add_consumer(shop, name="made", calls=f"app.services.made:{calls}"), code, text)

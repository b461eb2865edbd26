"""`add_worker.py upgrade`: what the project changed and what the templates changed, both kept."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.shapes import SHAPES
from workerkit import record, templates
from workerkit.home import open_fit

ROOT = Path(__file__).resolve().parents[2]
Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
Use = Callable[[str, Mapping[str, tuple[str, str]]], None]
LEFTOVER = '"""Once needed."""\n\nLEFT = 1\n'


@pytest.fixture
def skill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """Makes the templates those of another version: the present ones with edits, each of a file."""

    def use(version: str, edits: Mapping[str, tuple[str, str]]) -> None:
        folder = tmp_path / f"skill-{version}" / "templates"
        shutil.copytree(ROOT / "templates", folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder.parent / "SKILL.md").write_text(f'metadata:\n  version: "{version}"\n')
        for name, (old, new) in edits.items():
            path = folder / name
            text = path.read_text() if path.exists() else ""
            assert old in text, name
            path.write_text(text.replace(old, new, 1) if old else new + text)
        monkeypatch.setattr(templates, "TEMPLATES", folder)
        monkeypatch.setattr(record, "TEMPLATES", folder)
        templates._find.cache_clear()  # templates do not change while the script runs

    yield use
    templates._find.cache_clear()


def git(project: Path, *arguments: str) -> None:
    """Run Git as somebody."""
    who = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b.c",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "core.hooksPath=",
    )
    subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)


def commit(project: Path) -> None:
    """Commit all that is there."""
    if not (project / ".git").exists():  # its folder is elsewhere: tests read all files of a project
        git(project, "init", "-q", f"--separate-git-dir={project}.git")
    git(project, "add", "-A")
    git(project, "commit", "-q", "--allow-empty", "-m", "x")


def edit(path: Path, old: str, new: str) -> None:
    """Change a file as its owner would."""
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new, 1))


def states(run: Any) -> dict[str, str]:
    """The states of the files that are not as they were, by name."""
    return {Path(file["path"]).name: file["state"] for file in run.data["files"] if file["diff"] is not None}


OLD = {
    "app/core/slots.py": ("", "import app.core.leftover  # noqa: F401\n"),
    "app/core/leftover.py": ("", LEFTOVER),
}
NEW = {
    "app/core/retry.py": ("", "# theirs, at the top\n"),
    "app/core/gate.py": ("", "# theirs, at the same place\n"),
    "app/core/slots.py": ("", "import app.core.extra  # noqa: F401\n"),
    "app/core/extra.py": ("", '"""New."""\n'),
    "app/core/deadline.py": ("", "# theirs\n"),
    "tests/workers/redis_lab.py": ("", "# theirs\n"),
}
NEWEST = {
    **NEW,
    "app/core/retry.py": ("", "# theirs, at the top\n# and once more\n"),
    "app/core/gate.py": ("", "# theirs, at the same place\n# and once more\n"),
}


@pytest.mark.parametrize("name", ["async-src", "sqlmodel-backend", "flat-module"])
def test_upgrade(name: str, skill: Use, script: Script, tree: Tree, tmp_path: Path) -> None:
    # Given a project with a worker, committed, of which the team has edited and laid out some files
    shape = SHAPES[name]
    project = shape.build(tmp_path / "project")
    skill("1.0.0", OLD)
    added = script("redis-consumer", "order_paid", "--calls", shape.calls, "--project", project)
    assert added.code == 0, added.err
    fit = open_fit(project)
    core, workers = fit.project.folder / "core", fit.project.tests / "workers"
    edit(core / "deadline.py", "\n\n\n", "\n\n")
    commit(project)
    (core / "retry.py").write_text((core / "retry.py").read_text() + "\n# ours, at the end\n")
    (core / "gate.py").write_text("# ours\n" + (core / "gate.py").read_text())
    (core / "health.py").write_text((core / "health.py").read_text() + "\n# ours\n")
    consumer = fit.project.folder / "consumers" / "order_paid.py"
    consumer.write_text("# mine\n" + consumer.read_text())
    commit(project)
    before = tree(project)

    # When the templates are others, then a dry run writes nothing and shows what would be
    skill("2.0.0", NEW)
    dry = script("upgrade", "--project", project, "--dry-run")
    assert (dry.code, tree(project)) == (1, before)
    assert "<<<<<<< yours" in dry.out
    assert "+++ " + fit.project.shown(core / "deadline.py") in dry.out

    # And an upgrade keeps both sides
    done = script("upgrade", "--project", project, "--format", "json")
    assert (done.code, done.data["version"]) == (1, "2.0.0"), done.err
    assert states(done) == {
        "retry.py": "merged",
        "gate.py": "conflict",
        "slots.py": "replaced",
        "extra.py": "new",
        "deadline.py": "replaced",
        "redis_lab.py": "replaced",
        "workers.lock": "edited",
    }
    assert done.data["conflicts"] == [fit.project.shown(core / "gate.py")]
    assert done.data["gone"] == [fit.project.shown(core / "leftover.py")]
    retry, gate = (core / "retry.py").read_text(), (core / "gate.py").read_text()
    assert retry.startswith("# theirs, at the top\n")
    assert retry.endswith("\n# ours, at the end\n")
    assert gate.startswith(
        "<<<<<<< yours\n# ours\n=======\n# theirs, at the same place\n>>>>>>> template 2.0.0\n"
    )
    after = tree(project)
    changed = {Path(path).name for path in after if after[path] != before.get(path)}
    assert changed == set(states(done))
    assert before.keys() <= after.keys()
    assert (workers / "redis_lab.py").read_text().startswith("# theirs\n")

    # And a second run changes nothing, though it names what is unresolved
    again = script("upgrade", "--project", project, "--format", "json")
    assert (again.code, again.data["changed"], tree(project)) == (1, False, after)
    assert again.data["conflicts"] == done.data["conflicts"]

    # And once that is resolved the next upgrade knows what the last one brought
    edit(core / "gate.py", gate.partition("template 2.0.0\n")[0] + "template 2.0.0\n", "# ours and theirs\n")
    commit(project)
    assert script("upgrade", "--project", project).code == 0
    skill("3.0.0", NEWEST)
    last = script("upgrade", "--project", project, "--format", "json")
    assert states(last) == {"retry.py": "merged", "gate.py": "conflict", "workers.lock": "edited"}
    assert (core / "retry.py").read_text() == retry.replace("at the top\n", "at the top\n# and once more\n")


def test_without_git_each_difference_of_an_edited_copy_is_a_conflict(
    shop: Path, skill: Use, script: Script, add_consumer: Script
) -> None:
    add_consumer(shop)
    retry = shop / "app/core/retry.py"
    retry.write_text(retry.read_text() + "# ours\n")
    skill("2.0.0", {"app/core/retry.py": ("", "# theirs\n"), "app/core/slots.py": ("", "# theirs\n")})

    done = script("upgrade", "--project", shop, "--format", "json")

    # The copies that nobody edited need no history
    assert states(done) == {"retry.py": "conflict", "slots.py": "replaced", "workers.lock": "edited"}
    assert retry.read_text().count("<<<<<<< yours") == 2
    assert "neither in the record nor in Git's history" in done.err


def test_a_project_without_a_record_gets_one(shop: Path, script: Script, add_consumer: Script) -> None:
    add_consumer(shop)
    (shop / "workers.lock").unlink()

    done = script("upgrade", "--project", shop, "--format", "json")

    assert (done.code, states(done)) == (0, {"workers.lock": "new"})
    assert script("upgrade", "--project", shop, "--format", "json").data["changed"] is False


def test_what_is_not_committed_is_not_touched(
    shop: Path, skill: Use, script: Script, add_consumer: Script, tree: Tree
) -> None:
    add_consumer(shop)
    commit(shop)
    (shop / "app/core/slots.py").write_text("# ours\n" + (shop / "app/core/slots.py").read_text())
    (shop / "app/core/health.py").write_text("# ours\n" + (shop / "app/core/health.py").read_text())
    before = tree(shop)
    skill("2.0.0", {"app/core/slots.py": ("\n\n\n", "\n\n\nEXTRA = 1\n\n\n")})

    refused = script("upgrade", "--project", shop)
    assert (refused.code, tree(shop)) == (9, before)
    # Only what would change counts
    assert (
        refused.err
        == "add_worker.py: app/core/slots.py: not committed; commit first, or go on with --force\n"
    )

    forced = script("upgrade", "--project", shop, "--force")
    assert forced.code == 0, forced.err
    text = (shop / "app/core/slots.py").read_text()
    assert text.startswith("# ours\n")
    assert "\nEXTRA = 1\n" in text


def test_removed_copies_stay_away_and_lost_names_are_said(
    shop: Path, skill: Use, script: Script, add_consumer: Script
) -> None:
    skill("1.0.0", {"app/core/slots.py": ("\n\n\n", "\n\n\nEXTRA = 1\n\n\n")})
    add_consumer(shop)
    (shop / "app/core/health.py").unlink()
    (shop / "app/services/own.py").write_text("from app.core.slots import EXTRA\n\nused = EXTRA\n")
    skill(
        "2.0.0",
        {
            "app/core/slots.py": ("", "import anthropic  # noqa: F401\n"),
            "app/models/inbox_message.py": ("", "# theirs\n"),
        },
    )

    done = script("upgrade", "--project", shop, "--format", "json")

    assert done.code == 0, done.err
    assert not (shop / "app/core/health.py").exists()
    assert "app/core/health.py: was removed here" in done.err
    todo = "\n".join(done.data["todo"])
    assert "app/services/own.py imports EXTRA of app.core.slots, which has none any more" in todo
    assert "anthropic>=" in todo
    assert "a migration for what is new in app/models/inbox_message.py" in todo
    assert "CHANGELOG.md asks for since 1.0.0" in todo


def test_tables_of_new_models_get_a_migration(
    shop: Path, skill: Use, script: Script, add_consumer: Script, tree: Tree
) -> None:
    # Given a project whose templates knew no inbox yet
    add_consumer(shop)
    for path in (shop / "app/models/inbox_message.py", *shop.glob("migrations/versions/*inbox_message.py")):
        path.unlink()
    lock = shop / "workers.lock"
    lock.write_text(
        "".join(line for line in lock.read_text().splitlines(keepends=True) if "inbox_m" not in line)
    )
    before = tree(shop)
    skill("2.0.0", {})

    # When it is upgraded
    done = script("upgrade", "--project", shop, "--format", "json")

    # Then the model lands with its migration, and those that are there stay as they are
    assert done.code == 0, done.err
    new = tree(shop)
    assert {name: text for name, text in new.items() if name in before and name != "workers.lock"} == {
        name: text for name, text in before.items() if name != "workers.lock"
    }
    assert sorted(Path(name).name.rpartition("2")[2][-16:] for name in new.keys() - before.keys()) == [
        "inbox_message.py",
        "inbox_message.py",
    ]
    assert "alembic upgrade head" in done.data["todo"]


def test_project_without_workers(shop: Path, script: Script, tree: Tree) -> None:
    before = tree(shop)

    done = script("upgrade", "--project", shop)

    assert (done.code, tree(shop)) == (0, before)
    assert "no workers" in done.err

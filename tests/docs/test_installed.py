"""The skill as installers leave it: without README.md and without names that begin with `_` or `.`."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.documents import ROOT

NEEDED = ("templates", "examples", "scripts", "references")
GENERATED = {"__pycache__"}
MARK_PAID = "app.services.orders:OrderService.mark_paid"


def dropped(name: str) -> bool:
    return name == "README.md" or name.startswith(("_", "."))


def without_dropped(_: str, names: list[str]) -> set[str]:
    return {name for name in names if dropped(name)}


@pytest.mark.parametrize("folder", NEEDED)
def test_no_name_that_installers_drop(folder: str) -> None:
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*"))
    odd = [path for path in paths if path.name.startswith(("_", ".")) and not GENERATED & set(path.parts)]
    assert not [path for path in odd if not path.name.endswith("_cache")]


def test_no_import_of_a_private_module() -> None:
    for folder in ("templates", "scripts", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            own = re.findall(
                r"^\s*from (?:app|workerkit|world)[\w.]* import _\w+$", path.read_text(), re.MULTILINE
            )
            assert not own, path


def result_of(skill: Path, project: Path) -> dict[str, str]:
    """Add both kinds of workers to a copy of the skill's shop; all files of the project."""
    shutil.copytree(skill / "examples" / "shop", project, ignore=without_dropped)
    for words in (["redis-consumer", "order_paid", "--calls", MARK_PAID], ["outbox-relay"]):
        command: list[str | Path] = [
            sys.executable,
            skill / "scripts" / "add_worker.py",
            *words,
            "--project",
            project,
        ]
        subprocess.run(command, check=True, capture_output=True)
    files = (path for path in sorted(project.rglob("*")) if path.is_file())
    # A migration is named after the minute it was made in.
    name = re.compile(r"\d{8}_\d{4}(?=_(?:in|out)box)")
    return {
        name.sub("", path.relative_to(project).as_posix()): without_time(path.read_text()) for path in files
    }


def without_time(text: str) -> str:
    lines = (
        line
        for line in text.splitlines()
        if not re.match(r"(?:Create Date|Revision|Revises|(?:down_)?revision)", line)
    )
    return "\n".join(lines)


def test_an_installed_copy_adds_the_same_workers(tmp_path: Path) -> None:
    installed = tmp_path / "python-async-workers"
    shutil.copytree(ROOT / "scripts", installed / "scripts", ignore=without_dropped)
    for folder in ("templates", "examples"):
        shutil.copytree(ROOT / folder, installed / folder, ignore=without_dropped)

    assert result_of(installed, tmp_path / "theirs") == result_of(ROOT, tmp_path / "ours")

"""The hook of pre-commit, and the steps that the help shows, do what they are said to do."""

import json
import re
import shlex
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import strictyaml  # type: ignore[import-untyped]  # it has no types

import check_workers

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(check_workers.__file__).resolve()
WRONG = "import time\nasync def handle():\n    time.sleep(1)\n"
RIGHT = "import asyncio\nasync def handle():\n    await asyncio.sleep(1)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with a mistake in it, and a folder that a hook must not mind."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "work.py").write_text(WRONG)
    subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
    return tmp_path


def yaml(text: str) -> Any:
    return strictyaml.dirty_load(textwrap.dedent(text), allow_flow_style=True).data


def snippet(start: str) -> Any:
    """The part of the help that begins with a line and is indented below it."""
    lines = (check_workers.__doc__ or "").partition(start)[2].split("\n\n")[1]
    return yaml(lines)


def in_shell(command: str, project: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a workflow does, with the clone of the skill where the project put it."""
    whole = command.replace("path/to/check_workers.py", shlex.quote(str(SCRIPT)))
    return subprocess.run(
        ["bash", "-e", "-c", whole], cwd=project, capture_output=True, text=True, check=False
    )


def test_the_hook_finds_and_passes(project: Path) -> None:
    # Given the hook as pre-commit reads it: a script of this repository, run at the top of the project
    (hook,) = yaml((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("check-workers", "script", "false")
    assert {"name", "entry", "types_or"} <= hook.keys()
    command = [str(ROOT / shlex.split(hook["entry"])[0]), *shlex.split(hook["entry"])[1:]]

    # When the project has a mistake, then the commit fails; when it has none, it passes
    first = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (first.returncode, "app/work.py:3:5" in first.stdout) == (1, True)
    (project / "app" / "work.py").write_text(RIGHT)
    assert subprocess.run(command, cwd=project, capture_output=True, check=False).returncode == 0


def test_the_local_hook_of_the_help(project: Path) -> None:
    (repository,) = snippet("in .pre-commit-config.yaml")
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["language"], hook["pass_filenames"]) == ("local", "system", "false")
    assert in_shell(hook["entry"], project).returncode == 1


def test_the_workflow_of_the_help(project: Path) -> None:
    run, upload = snippet("In a GitHub workflow")

    # The step fails, the file is there for the next one, which runs all the same
    assert in_shell(run["run"], project).returncode == 1
    assert upload["if"] == "always()"
    assert re.fullmatch(r"github/codeql-action/upload-sarif@v\d+", upload["uses"])
    log = json.loads((project / upload["with"]["sarif_file"]).read_text())
    assert [one["ruleId"] for one in log["runs"][0]["results"]] == ["ASY02"]

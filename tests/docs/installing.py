"""Ways by which the skill comes to an agent. Each gives the folder that the agent then has."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.documents import ROOT
from tools import archive

# The newest that starts under Node 20; later ones want 22.
INSTALLER = "skills@1.7.1"
TRIES = 3
SECONDS = 80  # for one try; most of it is the download
# What a clone does not hold, and the repository itself.
NOT_CLONED = shutil.ignore_patterns(
    ".git", ".venv*", ".services", "__pycache__", ".*_cache", ".hypothesis", "dist", "results"
)


def without(*beginnings: str, also: str = "") -> Callable[[Path], Path]:
    """A copy without the names that an installer drops."""

    def install(folder: Path) -> Path:
        def dropped(path: str, names: list[str]) -> set[str]:
            odd = {name for name in names if name == also or name.startswith(beginnings)}
            return odd | set(NOT_CLONED(path, names))

        return Path(shutil.copytree(ROOT, folder / archive.NAME, ignore=dropped))

    return install


def from_archive(folder: Path) -> Path:
    """The .skill file, opened."""
    with zipfile.ZipFile(archive.build(folder)) as opened:
        opened.extractall(folder)
    return folder / archive.NAME


def by_npx(folder: Path) -> Path:
    """`npx skills add` of a clone, in a project. npm knows by its own configuration where its registry is."""
    clone, project = folder / "clone" / archive.NAME, folder / "project"
    shutil.copytree(ROOT, clone, ignore=NOT_CLONED)
    project.mkdir()
    npx = shutil.which("npx")
    if npx is None:
        pytest.fail(
            "`npx` is not on the PATH: install Node.js 20 or newer, or leave out what needs npm's registry "
            "with make test ARGS=\"-m 'not registry'\"",
            pytrace=False,
        )
    words = ["--yes", INSTALLER, "add", str(clone), "--yes", "--copy", "--agent", "claude-code"]
    said = ""
    for _ in range(TRIES):
        said = run_quietly([npx, *words], project)
        installed = project / ".claude" / "skills" / archive.NAME
        if (installed / "SKILL.md").is_file():
            return installed
    return pytest.fail(
        f"`npx {INSTALLER} add` installed nothing in {TRIES} tries. When npm's registry cannot be reached "
        f"from here, leave this out with make test ARGS=\"-m 'not registry'\". It said:\n{said}",
        pytrace=False,
    )


def run_quietly(command: list[str], folder: Path) -> str:
    """Run without telemetry; what it said."""
    environment = {**os.environ, "DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "CI": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"nothing within {SECONDS} s"
    return done.stdout + done.stderr


WAYS = {
    "names with _ dropped": without("_"),
    "names with . and README.md dropped": without(".", also="README.md"),
    "archive": from_archive,
    "npx": by_npx,
}

"""The folders of runs: laid out for an agent, and graded."""

from __future__ import annotations

import asyncio
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals.benchmark import CONFIGURATIONS, WITH, Run
from evals.grade import grade
from evals.tasks import TASKS, Task
from tools import archive

SKILL_FOLDERS = (".claude/skills", ".agents/skills")
PREAMBLE = "Read README.md of this project first. Then do this ticket; when it is done, say what you did.\n\n"


def install(project: Path, folder: Path) -> None:
    """Put the skill where clients look for it."""
    packed = archive.build(folder)
    for place in SKILL_FOLDERS:
        with zipfile.ZipFile(packed) as opened:
            opened.extractall(project / place)


def prepare(task: Task, configuration: str, folder: Path) -> Path:
    """The project that the agent gets."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    project = task.lay_out(folder / "project")
    if configuration == WITH:
        install(project, folder)
    return project


def graded(task: Task, folder: Path, patience: float) -> dict[str, Any]:
    """Grade the project of a run, and keep what was found beside it."""
    grading = asyncio.run(grade(task, folder / "project", patience=patience))
    (folder / "grading.json").write_text(json.dumps(grading.json(), indent=2) + "\n", encoding="utf-8")
    (folder / "processes.log").write_text(grading.logs, encoding="utf-8")
    print(*grading.lines(), sep="\n")
    return grading.json()


def lay_out(chosen: list[tuple[Task, str, int]], output: Path) -> list[Path]:
    """Folders for an agent to work in. FileExistsError, and nothing is touched, when one is there already."""
    folders = [output / f"eval-{task.id}" / name / f"run-{number}" for task, name, number in chosen]
    for folder in folders:
        if folder.exists():
            raise FileExistsError(f"{folder} is there already")
    for folder, (task, configuration, _) in zip(folders, chosen, strict=True):
        prepare(task, configuration, folder)
        (folder / "ticket.txt").write_text(PREAMBLE + task.ticket + "\n", encoding="utf-8")
    return folders


def collect(output: Path, patience: float) -> Iterator[Run]:
    """Grade what `lay_out` has laid out, but for what is graded already."""
    for project in sorted(output.glob("eval-*/*/run-*/project")):
        folder = project.parent
        task, configuration = int(folder.parts[-3].removeprefix("eval-")), folder.parts[-2]
        if task not in TASKS or configuration not in CONFIGURATIONS:
            continue
        done = folder / "grading.json"
        print(f"== task {task}, {configuration}, {folder.name}{' (graded before)' if done.is_file() else ''}")
        grading = json.loads(done.read_text()) if done.is_file() else graded(TASKS[task], folder, patience)
        seconds, used = timing(folder / "timing.json")
        number = int(folder.name.removeprefix("run-"))
        yield Run(task, configuration, number, grading, seconds, used, "collected")


def timing(path: Path) -> tuple[float | None, int | None]:
    """Seconds and tokens; None for what the file does not say, or where there is none."""
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return said.get("seconds", said.get("total_duration_seconds")), said.get(
        "tokens", said.get("total_tokens")
    )

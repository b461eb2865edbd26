"""Gives tickets to an agent, with the skill and without, grades what comes out, and writes benchmark.json.

    python -m evals.run --agent 'COMMAND' --output FOLDER
    python -m evals.run --agent 'COMMAND' --output FOLDER --task 3 --task 5 --runs 3 --only with_skill

A shell runs COMMAND in a copy of the task's app. The ticket is on its standard input, in EVAL_TICKET, and
in the file that EVAL_TICKET_FILE names. With the skill, .claude/skills and .agents/skills of that copy
hold it. Tokens are counted when COMMAND writes {"tokens": N} into the file that EVAL_REPORT names, or
prints JSON with `usage` as its last line.

What the agent said, its project and the grading stay in FOLDER. Exit codes: 0 all graded, 2 wrong command
line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals.benchmark import CONFIGURATIONS, WITH, Run, benchmark, table
from evals.grade import PATIENCE, grade
from evals.tasks import TASKS, Task
from support import reaper
from tools import archive
from tools.release import version_of

SKILL_FOLDERS = (".claude/skills", ".agents/skills")
PREAMBLE = "Read README.md of this project first. Then do this ticket; when it is done, say what you did.\n\n"


@dataclass(frozen=True)
class Agent:
    """A command, and the seconds that it has for a ticket."""

    command: str
    seconds: float

    def work(self, ticket: str, project: Path, folder: Path) -> tuple[str, float, int | None]:
        """Give it a ticket; how it ended, the seconds it took, and its tokens."""
        (folder / "ticket.txt").write_text(ticket, encoding="utf-8")
        report = folder / "report.json"
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "EVAL_TICKET": ticket,
            "EVAL_TICKET_FILE": str(folder / "ticket.txt"),
            "EVAL_REPORT": str(report),
        }
        environment.pop("PYTHONPATH", None)  # this repository's, which would hide the project's own modules
        began = time.monotonic()
        with (
            (folder / "ticket.txt").open("rb") as given,
            (folder / "stdout.txt").open("wb") as out,
            (folder / "stderr.txt").open("wb") as err,
        ):
            process = subprocess.Popen(
                ["/bin/sh", "-c", self.command],
                cwd=project,
                env=environment,
                stdin=given,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                ended = f"exit code {process.wait(self.seconds)}"
            except subprocess.TimeoutExpired:
                reaper.kill_tree(process.pid)
                process.wait()
                ended = f"killed after {self.seconds:g} s"
        return ended, time.monotonic() - began, tokens(report, folder / "stdout.txt")


def tokens(report: Path, stdout: Path) -> int | None:
    """What the agent reports to have used; None where it says nothing."""
    lines = stdout.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    for text in ([report.read_text(encoding="utf-8")] if report.is_file() else []) + lines[-1:]:
        try:
            data: Any = json.loads(text)
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("tokens"), int):
            return int(data["tokens"])
        usage = data.get("usage") if isinstance(data, dict) else None
        if isinstance(usage, dict):
            return sum(int(value) for name, value in usage.items() if name.endswith("tokens"))
    return None


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


def play(agent: Agent, chosen: list[tuple[Task, str, int]], output: Path, patience: float) -> Iterator[Run]:
    """Run and grade, one after the other."""
    for task, configuration, number in chosen:
        folder = output / f"eval-{task.id}" / configuration / f"run-{number}"
        project = prepare(task, configuration, folder)
        ended, seconds, used = agent.work(PREAMBLE + task.ticket + "\n", project, folder)
        grading = asyncio.run(grade(task, project, patience=patience))
        (folder / "grading.json").write_text(json.dumps(grading.json(), indent=2) + "\n", encoding="utf-8")
        (folder / "processes.log").write_text(grading.logs, encoding="utf-8")
        print(
            f"== task {task.id}, {configuration}, run {number}: {ended}, {seconds:.0f} s",
            *grading.lines(),
            sep="\n",
        )
        yield Run(task.id, configuration, number, grading.json(), seconds, used, ended)


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", required=True, metavar="COMMAND")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="outside of this repository"
    )
    parser.add_argument("--task", type=int, action="append", choices=sorted(TASKS), help="default: all")
    parser.add_argument("--runs", type=int, default=1, help="of each task and configuration (default: 1)")
    parser.add_argument("--only", choices=CONFIGURATIONS, help="default: with the skill and without")
    parser.add_argument("--seconds", type=float, default=1800, help="for one ticket (default: 1800)")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="of the grader, in seconds")
    parser.add_argument("--name", default="", help="of the agent, for benchmark.json (default: its command)")
    return parser


def main() -> int:
    """Run all that is chosen; the exit code."""
    arguments = command_line().parse_args()
    if arguments.output.resolve().is_relative_to(archive.ROOT):
        command_line().error(
            "--output: a folder outside of this repository, or agents find the solutions in it"
        )
    chosen = [
        (TASKS[task], configuration, number)
        for task in arguments.task or sorted(TASKS)
        for configuration in ([arguments.only] if arguments.only else CONFIGURATIONS)
        for number in range(1, arguments.runs + 1)
    ]
    agent = Agent(arguments.agent, arguments.seconds)
    output = arguments.output.resolve()
    runs = list(play(agent, chosen, output, arguments.patience))
    metadata = {
        "skill_name": archive.NAME,
        "skill_version": version_of(),
        "agent": arguments.name or arguments.agent,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "evals_run": sorted({task.id for task, _, _ in chosen}),
        "runs_per_configuration": arguments.runs,
    }
    result = benchmark(runs, metadata)
    (output / "benchmark.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Gives tickets to an agent, with the skill and without, grades what comes out, and writes benchmark.json.

    python -m evals.run --agent 'COMMAND' --output FOLDER
    python -m evals.run --agent 'COMMAND' --output FOLDER --task 3 --task 5 --runs 3 --only with_skill
    python -m evals.run --agent 'COMMAND' --output FOLDER --triggers

A shell runs COMMAND in a copy of the task's app. The ticket is on its standard input, in EVAL_TICKET, and
in the file that EVAL_TICKET_FILE names. With the skill, .claude/skills and .agents/skills of that copy
hold it. Tokens are counted when COMMAND writes {"tokens": N} into the file that EVAL_REPORT names, or
prints JSON with `usage` as its last line.

--triggers asks instead which skill the agent would load for each query of triggers.json: COMMAND gets the
names and descriptions of several, ours among them, and answers `SKILL: NAME` or `SKILL: none`.

What the agent said, its project and the grading stay in FOLDER. benchmark.json there is written after each
run; what it holds of the other kind stays. Exit codes: 0 all graded, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals import triggers
from evals.agent import Agent
from evals.benchmark import CONFIGURATIONS, WITH, Run, benchmark, table
from evals.grade import PATIENCE, grade
from evals.tasks import TASKS, Task
from tools import archive
from tools.release import version_of

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
    parser.add_argument(
        "--runs", type=int, default=1, help="of each task and configuration, or query (default: 1)"
    )
    parser.add_argument("--triggers", action="store_true", help="ask the trigger queries, no tickets")
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
    metadata: dict[str, Any] = {
        "skill_name": archive.NAME,
        "skill_version": version_of(),
        "agent": arguments.name or arguments.agent,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
    }
    if arguments.triggers:
        answers: list[triggers.Answer] = []
        for answer in triggers.ask(agent, output / "triggers", arguments.runs):
            answers.append(answer)
            save(output, {"triggers": {"metadata": metadata, **triggers.summary(answers)}})
        print(triggers.table(answers))
        return 0
    metadata |= {
        "evals_run": sorted({task.id for task, _, _ in chosen}),
        "runs_per_configuration": arguments.runs,
    }
    runs: list[Run] = []
    for run in play(agent, chosen, output, arguments.patience):
        runs.append(run)
        save(output, benchmark(runs, metadata))
    print(table(benchmark(runs, metadata)))
    return 0


def save(output: Path, sections: dict[str, Any]) -> None:
    """Put sections into benchmark.json; others stay as they are."""
    path = output / "benchmark.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(kept | sections, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

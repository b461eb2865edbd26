"""Gives tickets to an agent, with the skill and without, grades what comes out, and writes benchmark.json.

    python -m evals.run --agent 'COMMAND' --output FOLDER
    python -m evals.run --agent 'COMMAND' --output FOLDER --task 3 --task 5 --runs 3 --only with_skill
    python -m evals.run --agent 'COMMAND' --output FOLDER --triggers
    python -m evals.run --prepare FOLDER [--without-skill] [--task 3]
    python -m evals.run --collect FOLDER --name 'the agent'

A shell runs COMMAND in a copy of the task's app. The ticket is on its standard input, in EVAL_TICKET, and
in the file that EVAL_TICKET_FILE names. With the skill, .claude/skills and .agents/skills of that copy
hold it. Tokens are counted when COMMAND writes {"tokens": N} into the file that EVAL_REPORT names, or
prints JSON with `usage` as its last line.

--triggers asks instead which skill the agent would load for each query of triggers.json: COMMAND gets the
names and descriptions of several, ours among them, and answers `SKILL: NAME` or `SKILL: none`.

--prepare is for agents without a command: FOLDER/eval-N/with_skill/run-1 holds the project and ticket.txt,
which is all that the agent gets. Call it again with --without-skill for the other side. --collect grades what
is there by then, each run once: remove its grading.json to grade it again. timing.json beside the project
says what it took: {"seconds": 512, "tokens": 84000}, or skill-creator's own form of it.

What the agent said, its project and the grading stay in FOLDER. benchmark.json there is written after each
run; what it holds of the other kind stays. Exit codes: 0 all graded, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals import triggers
from evals.agent import Agent
from evals.benchmark import CONFIGURATIONS, WITH, WITHOUT, Run, benchmark, table
from evals.folders import PREAMBLE, collect, graded, lay_out, prepare
from evals.grade import PATIENCE
from evals.tasks import TASKS, Task
from tools import archive
from tools.release import version_of


def play(agent: Agent, chosen: list[tuple[Task, str, int]], output: Path, patience: float) -> Iterator[Run]:
    """Run and grade, one after the other."""
    for task, configuration, number in chosen:
        folder = output / f"eval-{task.id}" / configuration / f"run-{number}"
        project = prepare(task, configuration, folder)
        ended, seconds, used = agent.work(PREAMBLE + task.ticket + "\n", project, folder)
        print(f"== task {task.id}, {configuration}, run {number}: {ended}, {seconds:.0f} s")
        yield Run(task.id, configuration, number, graded(task, folder, patience), seconds, used, ended)


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", metavar="COMMAND")
    outside = "outside of this repository"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=outside)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help=f"lay tickets out there, {outside}")
    parser.add_argument("--without-skill", action="store_true", help="with --prepare: the other side")
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="grade what was prepared there")
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
    parser = command_line()
    arguments = parser.parse_args()
    given = [folder for folder in (arguments.prepare, arguments.collect, arguments.output) if folder]
    if len(given) != 1 or bool(arguments.output) != bool(arguments.agent):
        parser.error("either --agent and --output, or --prepare, or --collect")
    output = given[0].resolve()
    if output.is_relative_to(archive.ROOT):
        parser.error("a folder outside of this repository, or agents find the solutions in it")
    sides = [arguments.only] if arguments.only else CONFIGURATIONS
    if arguments.prepare:
        sides = [WITHOUT if arguments.without_skill else WITH]
    chosen = [
        (TASKS[task], configuration, number)
        for task in arguments.task or sorted(TASKS)
        for configuration in sides
        for number in range(1, arguments.runs + 1)
    ]
    if arguments.prepare:
        try:
            print(*lay_out(chosen, output), sep="\n")
        except FileExistsError as error:
            parser.error(str(error))
        return 0
    metadata: dict[str, Any] = {
        "skill_name": archive.NAME,
        "skill_version": version_of(),
        "agent": arguments.name or arguments.agent or "",
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
    }
    if arguments.collect:
        return report(collect(output, arguments.patience), output, metadata)
    agent = Agent(arguments.agent, arguments.seconds)
    if arguments.triggers:
        return ask_triggers(agent, arguments.runs, output, metadata)
    return report(play(agent, chosen, output, arguments.patience), output, metadata)


def report(runs: Iterable[Run], output: Path, metadata: dict[str, Any]) -> int:
    """Write benchmark.json after each run, and print the table; the exit code."""
    done: list[Run] = []
    for run in runs:
        done.append(run)
        each = Counter((run.task, run.configuration) for run in done)
        metadata |= {
            "evals_run": sorted({run.task for run in done}),
            "runs_per_configuration": max(each.values()),
        }
        save(output, benchmark(done, metadata))
    print(table(benchmark(done, metadata)))
    return 0


def ask_triggers(agent: Agent, runs: int, output: Path, metadata: dict[str, Any]) -> int:
    """Ask the trigger queries; the exit code."""
    answers: list[triggers.Answer] = []
    for answer in triggers.ask(agent, output / "triggers", runs):
        answers.append(answer)
        save(output, {"triggers": {"metadata": metadata, **triggers.summary(answers)}})
    print(triggers.table(answers))
    return 0


def save(output: Path, sections: dict[str, Any]) -> None:
    """Put sections into benchmark.json; others stay as they are."""
    path = output / "benchmark.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(kept | sections, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

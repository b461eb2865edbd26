"""Grades what an agent has made of a task: runs its Procfile with real servers, breaks things, and counts.

    python -m evals.grade 3 path/to/project                   prints ledger and findings
    python -m evals.grade 3 path/to/project --output FILE     also writes them as JSON

Exit codes: 0 every expectation was met, 1 not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evals import procfile
from evals.deployment import DeploymentError
from evals.stage import Finding, staged
from evals.tasks import TASKS, Task

PATIENCE = 60.0


@dataclass
class Grading:
    """What was found, and the accounts."""

    findings: list[Finding]
    ledgers: list[str] = field(default_factory=list)
    logs: str = ""

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return all(finding.passed for finding in self.findings)

    def json(self) -> dict[str, Any]:
        """The form of skill-creator's grading.json, with the accounts."""
        good, total = sum(finding.passed for finding in self.findings), len(self.findings)
        summary = {
            "passed": good,
            "failed": total - good,
            "total": total,
            "pass_rate": round(good / total, 3),
        }
        return {
            "expectations": [asdict(finding) for finding in self.findings],
            "summary": summary,
            "ledgers": self.ledgers,
        }

    def lines(self) -> list[str]:
        """For people."""
        found = [f"{'pass' if f.passed else 'FAIL'}  {f.text}\n      {f.evidence}" for f in self.findings]
        return [*self.ledgers, *found]


async def grade(
    task: Task, project: Path, *, patience: float = PATIENCE, rabbit: bool = True, pace: float = 1.0
) -> Grading:
    """Play the task's scenario. A project that does not run, or stops the scenario, fails what is left.

    `rabbit`: there is a RabbitMQ even where the ticket does not ask for one. `pace`: see Stage.
    """
    found: list[Finding] = []
    ledgers: list[str] = []
    logs = reason = ""
    try:
        procfile.read(project)  # before servers are started for nothing
        async with staged(
            project, rabbit=rabbit or task.rabbit, copies=task.copies, patience=patience, pace=pace
        ) as stage:
            found, ledgers = stage.findings, stage.ledgers
            try:
                await task.play(stage)
            finally:
                logs = stage.deployment.logs()
    except (DeploymentError, OSError, ValueError) as error:
        reason = str(error)
    except Exception as error:  # whatever the project answers, a grading comes out
        reason = f"{type(error).__name__}: {error}"
    told = {finding.text for finding in found}
    left = [Finding(text, passed=False, evidence=reason) for text in task.expectations if text not in told]
    order = task.expectations.index
    return Grading(sorted([*found, *left], key=lambda finding: order(finding.text)), ledgers, logs)


def main() -> int:
    """Grade from the command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.grade",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", type=int, choices=sorted(TASKS))
    parser.add_argument("project", type=Path)
    parser.add_argument("--output", type=Path, metavar="FILE")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS")
    parser.add_argument("--logs", action="store_true", help="also print the end of each process's log")
    arguments = parser.parse_args()
    task = TASKS[arguments.task]
    grading = asyncio.run(grade(task, arguments.project.resolve(), patience=arguments.patience))
    print("\n".join(grading.lines()))
    if arguments.logs:
        print(grading.logs)
    if arguments.output:
        arguments.output.write_text(json.dumps(grading.json(), indent=2) + "\n", encoding="utf-8")
    return 0 if grading.passed else 1


if __name__ == "__main__":
    sys.exit(main())

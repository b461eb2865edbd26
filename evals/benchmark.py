"""What comes of many runs: benchmark.json in skill-creator's form, and a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WITH, WITHOUT = "with_skill", "without_skill"
CONFIGURATIONS = (WITH, WITHOUT)


@dataclass(frozen=True)
class Run:
    """One run of an agent. `seconds` is wall time; `tokens` is None where the agent reports none."""

    task: int
    configuration: str
    number: int
    grading: Mapping[str, Any]
    seconds: float
    tokens: int | None
    ended: str

    def json(self) -> dict[str, Any]:
        """The entry of benchmark.json."""
        summary = self.grading["summary"]
        return {
            "eval_id": self.task,
            "configuration": self.configuration,
            "run_number": self.number,
            "result": {**summary, "time_seconds": round(self.seconds, 1), "tokens": self.tokens},
            "expectations": self.grading["expectations"],
            "ledgers": self.grading.get("ledgers", []),
            "notes": [self.ended],
        }


def benchmark(runs: Sequence[Run], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """All runs, their statistics for each configuration, and the difference that the skill makes."""
    summary: dict[str, Any] = {}
    for configuration in CONFIGURATIONS:
        some = [run for run in runs if run.configuration == configuration]
        if some:
            summary[configuration] = {
                "pass_rate": spread(run.grading["summary"]["pass_rate"] for run in some),
                "all_passed": sum(run.grading["summary"]["failed"] == 0 for run in some),
                "runs": len(some),
                "time_seconds": spread(run.seconds for run in some),
                "tokens": spread(run.tokens for run in some if run.tokens is not None),
            }
    if set(summary) == set(CONFIGURATIONS):
        summary["delta"] = {
            name: difference(summary[WITH][name], summary[WITHOUT][name])
            for name in ("pass_rate", "time_seconds", "tokens")
        }
    return {"metadata": dict(metadata), "runs": [run.json() for run in runs], "run_summary": summary}


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """Mean, standard deviation, least and most; None of nothing."""
    some = list(values)
    if not some:
        return None
    return {
        "mean": round(statistics.fmean(some), 3),
        "stddev": round(statistics.stdev(some), 3) if len(some) > 1 else 0.0,
        "min": round(min(some), 3),
        "max": round(max(some), 3),
    }


def difference(ours: Mapping[str, float] | None, theirs: Mapping[str, float] | None) -> str | None:
    """The difference of two means, with its sign; None where one of them is missing."""
    if ours is None or theirs is None:
        return None
    return f"{ours['mean'] - theirs['mean']:+.3f}".rstrip("0").rstrip(".")


def table(result: Mapping[str, Any]) -> str:
    """One row for each task and configuration."""
    rows = [
        "| task | configuration | expectations met | seconds | tokens |",
        "| --- | --- | --- | --- | --- |",
    ]
    for run in result["runs"]:
        got = run["result"]
        tokens = "-" if got["tokens"] is None else f"{got['tokens']:,}"
        rows.append(
            f"| {run['eval_id']} | {run['configuration'].replace('_', ' ')} "
            f"| {got['passed']} of {got['total']} | {got['time_seconds']:.0f} | {tokens} |"
        )
    return "\n".join(rows)

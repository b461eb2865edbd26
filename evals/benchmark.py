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
    """One run of an agent. `seconds` is wall time; it and `tokens` are None where nobody has said them."""

    task: int
    configuration: str
    number: int
    grading: Mapping[str, Any]
    seconds: float | None
    tokens: int | None
    ended: str

    def json(self) -> dict[str, Any]:
        """The entry of benchmark.json."""
        summary = self.grading["summary"]
        seconds = None if self.seconds is None else round(self.seconds, 1)
        return {
            "eval_id": self.task,
            "configuration": self.configuration,
            "run_number": self.number,
            "result": {**summary, "time_seconds": seconds, "tokens": self.tokens},
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
                "time_seconds": spread(run.seconds for run in some if run.seconds is not None),
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
        tokens, seconds = (
            "-" if number is None else f"{number:,.0f}" for number in (got["tokens"], got["time_seconds"])
        )
        rows.append(
            f"| {run['eval_id']} | {run['configuration'].replace('_', ' ')} "
            f"| {got['passed']} of {got['total']} | {seconds} | {tokens} |"
        )
    return "\n".join(rows)

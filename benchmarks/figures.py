"""From what was measured to what is shown: medians over rounds, ratios within rounds, targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Run = Mapping[str, Any]
Figures = dict[str, float]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that `percent` of them do not exceed (nearest rank); nan without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def figures_of(run: Run) -> Figures:
    """The figures of one run of one contestant."""
    rate, latency = run["rate"], run["latency"]
    messages = rate["messages"]
    return {
        "messages_per_second": messages / rate["seconds"],
        "cpu_us": rate["cpu_seconds"] / messages * 1e6,
        "server_cpu_us": run["server_cpu_seconds"] / messages * 1e6,
        "p50_ms": latency["p50_seconds"] * 1e3,
        "p99_ms": latency["p99_seconds"] * 1e3,
        "trickle_cpu_us": latency["cpu_seconds"] / (latency["messages"] or math.nan) * 1e6,
        "peak_memory_mb": latency["peak_memory_bytes"] / 1e6,
    }


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over all rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]} if rounds else {}


def ratio(ours: Sequence[Figures], other: Sequence[Figures], name: str) -> float:
    """Ours divided by the other, each round by itself, and of that the median: what slows the machine down
    for a while slows down both. nan when there is nothing to compare.
    """
    pairs = [(a[name], b[name]) for a, b in zip(ours, other, strict=False) if b[name]]
    return statistics.median(a / b for a, b in pairs) if pairs else math.nan


def growth(costs: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Cost at each size divided by the cost at the smallest, paired by round."""
    smallest = costs[min(costs)]
    return {
        size: statistics.median(a / b for a, b in zip(values, smallest, strict=True))
        for size, values in sorted(costs.items())
    }


@dataclass(frozen=True)
class Target:
    """What a figure should reach. A missed one is a remark and no failure: machines differ."""

    text: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def reached(self) -> bool:
        """Whether the figure is on the right side; false for one that was not measured."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        verdict = "not measured" if math.isnan(self.value) else "pass" if self.reached else "miss"
        sign = ">=" if self.at_least else "<="
        return f"{verdict:>12}  {self.text}: {self.value:.2f} (target {sign} {self.limit:g})"

"""What the runs come to: figures of each contestant, ratios, and targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks import latency, llm, tasks
from benchmarks.figures import Figures, Target, figures_of, growth, medians, percentile, ratio
from benchmarks.plan import COMPARISONS, Comparison
from benchmarks.rabbit import WINDOW, times_single

GROWTH, ENQUEUE, MEMORY, CONFIRMS = 1.3, 1.15, 1.15, 5.0
RATE, CPU = "messages_per_second", "cpu_us"

Results = Mapping[str, Any]
Rounds = Mapping[str, Sequence[Figures]]


def rounds_of(runs: Mapping[str, Sequence[Results]]) -> Rounds:
    """The figures of each contestant's rounds."""
    return {name: [figures_of(run) for run in found] for name, found in runs.items() if found}


def ratios_of(rounds: Rounds, name: str, ours: str = "ours") -> Figures:
    """Ours to `name`, in speed and in processor time; empty for ours."""
    if name == ours or ours not in rounds:
        return {}
    return {
        "ours_times_as_fast": ratio(rounds[ours], rounds[name], RATE),
        "ours_times_the_cpu": ratio(rounds[ours], rounds[name], CPU),
    }


def enqueue_ratios(found: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    """With `enqueue` divided by without, the median over all pairs."""
    return {
        name: percentile([with_ / without for without, with_ in pairs], 50) for name, pairs in found.items()
    }


def targets(results: Results) -> Iterable[Target]:
    """What was aimed at, as far as it was measured."""
    for section, comparison in COMPARISONS.items():
        yield from comparison_targets(comparison, rounds_of(results.get(section, {})))
    if found := results.get("rabbit_confirms"):
        yield Target("confirms, a window to one by one", times_single(found)[WINDOW], CONFIRMS)
    if found := results.get("rabbit_memory"):
        largest = max(found)
        text = f"peak memory, backlog of {largest:,} to {min(found):,}"
        yield Target(text, growth(found)[largest], MEMORY, at_least=False)
    for name, value in enqueue_ratios(results.get("enqueue", {})).items():
        yield Target(f"place-order transaction with enqueue, {name}", value, ENQUEUE, at_least=False)
    for name, costs in results.get("growth", {}).items():
        largest = max(costs)
        yield Target(f"growth, {name}, at {largest:,}", growth(costs)[largest], GROWTH, at_least=False)
    yield from tasks.targets(results.get("tasks", {}))
    yield from latency.targets(results)
    if found := results.get("llm"):
        yield from llm.targets(found, results["plan"]["llm"])


def comparison_targets(one: Comparison, rounds: Rounds) -> Iterable[Target]:
    """Against the bare loop, and against the fastest peer: the one that ours beats by least."""
    if one.ours not in rounds:
        return
    ours = rounds[one.ours]
    if one.bare in rounds:
        yield Target(one.aim, ratio(ours, rounds[one.bare], RATE), one.share)
    peers = [ratio(ours, rounds[name], RATE) for name in one.peers if name in rounds]
    if peers and one.times is not None:
        yield Target(f"{one.aim.partition(',')[0]}, times the fastest peer", min(peers), one.times)


def summary(results: Results) -> dict[str, Any]:
    """What the tables show, for the JSON file."""
    found: dict[str, Any] = {}
    for section, ours in (*((name, one.ours) for name, one in COMPARISONS.items()), ("relay", "")):
        rounds = rounds_of(results.get(section, {}))
        found[section] = {
            name: {**medians(one), **ratios_of(rounds, name, ours)} for name, one in rounds.items()
        }
    found["enqueue"] = enqueue_ratios(results.get("enqueue", {}))
    found["growth"] = {name: growth(costs) for name, costs in results.get("growth", {}).items()}
    if confirms := results.get("rabbit_confirms"):
        found["rabbit_confirms"] = times_single(confirms)
    found["rabbit_memory"] = {
        size: percentile(mb, 50) for size, mb in results.get("rabbit_memory", {}).items()
    }
    found["tasks"] = tasks.summary(results.get("tasks", {}))
    if requests := results.get("requests"):
        found["requests"] = latency.ask_figures(requests)
    found["llm"] = {name: medians(rounds) for name, rounds in results.get("llm", {}).items()}
    found["readers"] = results.get("readers", {})
    found["targets"] = [
        {"text": one.text, "value": one.value, "limit": one.limit, "reached": one.reached}
        for one in targets(results)
    ]
    return found


def without_nan(value: Any) -> Any:
    """`value` with None for every figure that does not exist: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value

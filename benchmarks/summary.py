"""What the runs come to: figures of each contestant, ratios, and targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.figures import Figures, Target, figures_of, growth, medians, percentile, ratio
from benchmarks.plan import BARE, OURS, PEERS, TASKS

NO_OP_OF_BARE, NO_OP_OF_PEERS, WRITE_OF_BARE, GROWTH, ENQUEUE = 0.5, 5.0, 0.9, 1.3, 1.15
RATE, CPU = "messages_per_second", "cpu_us"

Results = Mapping[str, Any]
Rounds = Mapping[str, Sequence[Figures]]


def rounds_of(runs: Mapping[str, Sequence[Results]]) -> Rounds:
    """The figures of each contestant's rounds."""
    return {name: [figures_of(run) for run in found] for name, found in runs.items() if found}


def ratios_of(rounds: Rounds, name: str) -> Figures:
    """Ours to `name`, in speed and in processor time; empty for ours."""
    if name == OURS or OURS not in rounds:
        return {}
    return {
        "ours_times_as_fast": ratio(rounds[OURS], rounds[name], RATE),
        "ours_times_the_cpu": ratio(rounds[OURS], rounds[name], CPU),
    }


def enqueue_ratios(found: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    """With `enqueue` divided by without, the median over all pairs."""
    return {
        name: percentile([with_ / without for without, with_ in pairs], 50) for name, pairs in found.items()
    }


def targets(results: Results) -> Iterable[Target]:
    """What was aimed at, as far as it was measured."""
    yield from no_op_targets(rounds_of(results.get("noop", {})))
    write = rounds_of(results.get("write", {}))
    if OURS in write and BARE in write:
        share = ratio(write[OURS], write[BARE], RATE)
        yield Target("service write, share of the bare loop", share, WRITE_OF_BARE)
    for name, value in enqueue_ratios(results.get("enqueue", {})).items():
        yield Target(f"place-order transaction with enqueue, {name}", value, ENQUEUE, at_least=False)
    for name, costs in results.get("growth", {}).items():
        largest = max(costs)
        yield Target(f"growth, {name}, at {largest:,}", growth(costs)[largest], GROWTH, at_least=False)


def no_op_targets(noop: Rounds) -> Iterable[Target]:
    """Against the bare loop, and against the fastest peer: the one that ours beats by least."""
    if OURS in noop and BARE in noop:
        yield Target("no-op, share of the bare loop", ratio(noop[OURS], noop[BARE], RATE), NO_OP_OF_BARE)
    peers = [ratio(noop[OURS], noop[name], RATE) for name in PEERS if name in noop and OURS in noop]
    if peers:
        yield Target("no-op, times the fastest peer", min(peers), NO_OP_OF_PEERS)


def summary(results: Results) -> dict[str, Any]:
    """What the tables show, for the JSON file."""
    found: dict[str, Any] = {}
    for task in (*TASKS, "relay"):
        rounds = rounds_of(results.get(task, {}))
        found[task] = {name: {**medians(one), **ratios_of(rounds, name)} for name, one in rounds.items()}
    found["enqueue"] = enqueue_ratios(results.get("enqueue", {}))
    found["growth"] = {name: growth(costs) for name, costs in results.get("growth", {}).items()}
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

"""The table for people, from the same data that the JSON file holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.figures import Figures, Target, figures_of, growth, medians, percentile, ratio
from benchmarks.plan import BARE, OURS, PEERS

TITLES = {
    "noop": "handler that does nothing",
    "write": "handler with one service write and its inbox row, in one transaction",
}
COLUMNS = (
    ("messages_per_second", "msg/s", "{:,.0f}"),
    ("cpu_us", "CPU us", "{:,.1f}"),
    ("server_cpu_us", "servers us", "{:,.1f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("peak_memory_mb", "peak MB", "{:.0f}"),
)
NO_OP_OF_BARE, NO_OP_OF_PEERS, WRITE_OF_BARE, GROWTH, ENQUEUE = 0.5, 5.0, 0.9, 1.3, 1.15

Results = Mapping[str, Any]
Rounds = Mapping[str, Sequence[Figures]]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def number(value: float, form: str) -> str:
    """A figure, or a dash where there is none."""
    return "-" if math.isnan(value) else form.format(value)


def rounds_of(runs: Mapping[str, Sequence[Results]]) -> Rounds:
    """The figures of each contestant's rounds."""
    return {name: [figures_of(run) for run in found] for name, found in runs.items() if found}


def task_table(rounds: Rounds) -> str:
    """One line for each contestant; "ours is" says how many times as fast, and how many times the cost, ours
    is in the same rounds.
    """
    rows = [["", *(title for _, title, _ in COLUMNS), "ours is x as fast", "x the CPU"]]
    for name, figures in rounds.items():
        middle = medians(figures)
        ratios = [
            ratio(rounds.get(OURS, []), figures, column) if name != OURS else math.nan
            for column in ("messages_per_second", "cpu_us")
        ]
        rows.append(
            [
                name,
                *(number(middle[column], form) for column, _, form in COLUMNS),
                *(number(value, "{:.2f}") for value in ratios),
            ]
        )
    return table(rows)


def growth_table(found: Mapping[str, Mapping[int, Sequence[float]]], texts: Mapping[str, str]) -> str:
    """Cost per message by size, and its ratio to the smallest."""
    sizes = sorted(next(iter(found.values())))
    rows = [
        ["CPU us per message with", *(f"{size:,}" for size in sizes), *(f"ratio at {s:,}" for s in sizes[1:])]
    ]
    for name, costs in found.items():
        ratios = growth(costs)
        middle = [number(percentile(list(costs[size]), 50), "{:,.1f}") for size in sizes]
        rows.append([texts.get(name, name), *middle, *(f"{ratios[size]:.2f}" for size in sizes[1:])])
    return table(rows)


def enqueue_ratios(found: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    """With `enqueue` divided by without, the median over all pairs."""
    return {
        name: percentile([with_it / without for without, with_it in pairs], 50)
        for name, pairs in found.items()
    }


def targets(results: Results) -> Iterable[Target]:
    """What was aimed at, as far as it was measured."""
    noop, write = (rounds_of(results.get(task, {})) for task in ("noop", "write"))
    rate = "messages_per_second"
    if OURS in noop:
        yield Target(
            "no-op, share of the bare loop", ratio(noop[OURS], noop.get(BARE, []), rate), NO_OP_OF_BARE
        )
        peers = [ratio(noop[OURS], noop[name], rate) for name in PEERS if name in noop]
        yield Target("no-op, times the fastest peer", min(peers, default=math.nan), NO_OP_OF_PEERS)
    if OURS in write:
        yield Target(
            "write, share of the bare loop", ratio(write[OURS], write.get(BARE, []), rate), WRITE_OF_BARE
        )
    for name, value in enqueue_ratios(results.get("enqueue", {})).items():
        yield Target(f"place-order transaction with enqueue {name}", value, ENQUEUE, at_least=False)
    for name, costs in results.get("growth", {}).items():
        sizes = growth(costs)
        yield Target(f"growth, {name}, at {max(sizes):,}", sizes[max(sizes)], GROWTH, at_least=False)


def text(results: Results, growth_texts: Mapping[str, str]) -> Iterable[str]:
    """The whole report, part by part."""
    about = results["machine"]
    yield (
        f"{about['date']}  {about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, "
        f"{about['python']}, Redis {about['redis_server']}, PostgreSQL {about['postgresql']}, "
        f"load {about['load_average_before']} before"
    )
    for task, title in TITLES.items():
        if results.get(task):
            slots = results["plan"][task]["concurrency"]
            yield f"\n{title}, {slots} slots, {results['plan']['rounds']} rounds\n"
            yield task_table(rounds_of(results[task]))
    yield from extras(results, growth_texts)
    yield "\ntargets\n"
    yield from map(str, targets(results))
    yield from (f"note: {note}" for note in results["notes"])


def extras(results: Results, growth_texts: Mapping[str, str]) -> Iterable[str]:
    """The parts without contestants."""
    if results.get("enqueue"):
        yield "\nplace-order transaction, with enqueue to without\n"
        yield table([[name, f"{value:.3f}"] for name, value in enqueue_ratios(results["enqueue"]).items()])
    if results.get("relay"):
        yield "\noutbox relay, rows from the table to the stream; latency from enqueue, before its commit\n"
        yield task_table(rounds_of(results["relay"]))
    if results.get("growth"):
        yield "\ngrowth, processor time of consumer and servers together\n"
        yield growth_table(results["growth"], growth_texts)

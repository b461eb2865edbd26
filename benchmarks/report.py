"""The report for people, from the same data that the JSON file holds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.figures import growth, medians
from benchmarks.plan import COMPARISONS
from benchmarks.rabbit import times_single
from benchmarks.summary import Results, Rounds, enqueue_ratios, ratios_of, rounds_of, targets

COLUMNS = (
    ("messages_per_second", "msg/s", "{:,.0f}"),
    ("cpu_us", "CPU us", "{:,.1f}"),
    ("server_cpu_us", "servers us", "{:,.1f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("peak_memory_mb", "peak MB", "{:.0f}"),
)
CRON_COLUMNS = (
    ("ticks_per_second", "ticks/s", "{:,.1f}"),
    ("share", "of due", "{:.3f}"),
    ("p50_ms", "p50 ms", "{:.1f}"),
    ("p99_ms", "p99 ms", "{:.1f}"),
    ("cpu_ms", "CPU ms", "{:.2f}"),
    ("server_cpu_ms", "servers ms", "{:.2f}"),
    ("peak_memory_mb", "peak MB", "{:.0f}"),
)
TASKS_COLUMNS = (
    ("tasks_per_second", "tasks/s", "{:,.0f}"),
    ("cpu_us", "CPU us", "{:,.0f}"),
    ("server_cpu_us", "servers us", "{:,.0f}"),
    ("mb_child", "MB a child", "{:.0f}"),
    ("mb_all", "MB in all", "{:.0f}"),
)
REQUESTS_COLUMNS = (
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("p50_ratio", "p50, x insert", "{:.2f}"),
    ("p99_ratio", "p99, x insert", "{:.2f}"),
)
LLM_COLUMNS = (
    ("calls", "calls", "{:,.0f}"),
    ("seconds", "seconds", "{:.1f}"),
    ("in_flight", "at once", "{:,.0f}"),
    ("peak_mb", "peak MB", "{:.0f}"),
    ("kb_call", "kB a call", "{:.0f}"),
    ("cpu_ms", "CPU ms a call", "{:.1f}"),
    ("calls_per_mib", "calls/MiB", "{:.3f}"),
)
READERS_COLUMNS = (
    ("readers", "readers", "{:,.0f}"),
    ("events", "events", "{:,.0f}"),
    ("p50_ms", "p50 ms", "{:.0f}"),
    ("p99_ms", "p99 ms", "{:.0f}"),
    ("api_mb", "API MB", "{:.0f}"),
    ("cpu_us", "CPU us", "{:.0f}"),
)


def text(results: Results, growth_texts: Mapping[str, str]) -> Iterable[str]:
    """The whole report, part by part."""
    yield machine_line(results["machine"])
    for section, one in COMPARISONS.items():
        if results.get(section):
            load = results["plan"][section]
            yield (
                f"\n{one.title}: {load['concurrency']} slots, {results['plan']['rounds']} round(s), "
                f"latency at {load['rate']:g} messages/s\n"
            )
            yield task_table(rounds_of(results[section]), one.ours)
    if results.get("enqueue"):
        yield "\nplace-order transaction, with enqueue to without\n"
        yield table([[name, f"{value:.3f}"] for name, value in enqueue_ratios(results["enqueue"]).items()])
    if results.get("relay"):
        yield "\noutbox relay: rows from the table to the stream; latency from enqueue, before its commit\n"
        yield task_table(rounds_of(results["relay"]))
    if results.get("growth"):
        yield "\ngrowth: processor time of consumer and servers together\n"
        yield growth_table(results["growth"], growth_texts)
    if results.get("cron"):
        yield "\ncron jobs that do nothing, each due every second: ticks run, and how late they began\n"
        yield cron_table(results["cron"])
    if results.get("rabbit_confirms"):
        yield "\npublishing to a quorum queue, each message confirmed\n"
        yield confirms_table(results["rabbit_confirms"])
    if results.get("rabbit_memory"):
        yield "\npeak memory of our consumer of RabbitMQ by the backlog, MB\n"
        yield table([[f"{size:,}", f"{mb[0]:.0f}"] for size, mb in results["rabbit_memory"].items()])
    yield from jobs(results)
    yield "\ntargets\n"
    yield from map(str, targets(results))
    yield from (f"note: {note}" for note in results["notes"])


def jobs(results: Results) -> Iterable[str]:
    """Tasks, jobs, and their API."""
    found = results.get("summary", {})
    for task, one in (found.get("tasks") or {}).items():
        yield f"\ntasks, {task}: a worker of {results['plan']['tasks']['children']} processes\n"
        yield figures_table(one, TASKS_COLUMNS)
    if found.get("requests"):
        yield "\nan API, asked one by one: a transaction of one statement; Celery's own call in a thread\n"
        yield figures_table(found["requests"], REQUESTS_COLUMNS)
    if found.get("llm"):
        yield f"\ncalls of language models, {results['plan']['llm']['seconds']:g} s each\n"
        yield figures_table(found["llm"], LLM_COLUMNS)
    if found.get("readers"):
        yield "\nfollowers of jobs, one job each\n"
        yield figures_table({"api": found["readers"]}, READERS_COLUMNS)


def figures_table(found: Mapping[str, Mapping[str, float]], columns: Sequence[tuple[str, str, str]]) -> str:
    """One line for each name."""
    rows = [["", *(title for _, title, _ in columns)]]
    rows += [[name, *(number(one[key], form) for key, _, form in columns)] for name, one in found.items()]
    return table(rows)


def machine_line(about: Results) -> str:
    """What it was measured on."""
    return (
        f"{about['date']}  {about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, "
        f"{about['python']}, Redis {about['redis_server']}, PostgreSQL {about['postgresql']}"
        f"{', RabbitMQ ' + about['rabbitmq'] if about.get('rabbitmq') else ''}; "
        f"load {about['load_average_before']} before, {about['load_average_after']} after"
    )


def task_table(rounds: Rounds, ours: str = "") -> str:
    """One line for each contestant; the last columns compare ours with it, in the same rounds."""
    rows = [["", *(title for _, title, _ in COLUMNS), "ours: x as fast", "x the CPU"]]
    for name, figures in rounds.items():
        middle = medians(figures)
        cells = [number(middle[column], form) for column, _, form in COLUMNS]
        ratios = [number(value, "{:.2f}") for value in ratios_of(rounds, name, ours).values()] or ["-", "-"]
        rows.append([name, *cells, *ratios])
    return table(rows)


def growth_table(found: Mapping[str, Mapping[int, Sequence[float]]], texts: Mapping[str, str]) -> str:
    """Cost per message by size, and its ratio to the smallest."""
    sizes = sorted(next(iter(found.values())))
    titles = [f"{size:,}" for size in sizes]
    rows = [["CPU us per message with", *titles, *(f"ratio at {title}" for title in titles[1:])]]
    for name, costs in found.items():
        ratios = growth(costs)
        middle = [number(statistics.median(costs[size]), "{:,.1f}") for size in sizes]
        rows.append([texts.get(name, name), *middle, *(f"{ratios[size]:.2f}" for size in sizes[1:])])
    return table(rows)


def cron_table(found: Sequence[Mapping[str, Any]]) -> str:
    """One line for each contestant and number of jobs."""
    rows = [["", "jobs", "rows before", *(title for _, title, _ in CRON_COLUMNS)]]
    for one in found:
        cells = [number(one[column], form) for column, _, form in CRON_COLUMNS]
        rows.append(
            [one["contestant"].removeprefix("cron_"), str(one["jobs"]), f"{one['history']:,}", *cells]
        )
    return table(rows)


def confirms_table(found: Mapping[str, Sequence[float]]) -> str:
    """One line for each way."""
    times = times_single(found)
    rows = [["", "msg/s", "x one by one"]]
    rows += [
        [way, number(statistics.median(rates), "{:,.0f}"), number(times[way], "{:.1f}")]
        for way, rates in found.items()
    ]
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(line(row, widths) for row in rows)


def line(row: Sequence[str], widths: Sequence[int]) -> str:
    """One row."""
    first, *others = row
    cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    return "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def number(value: float, form: str) -> str:
    """A figure, or a dash where there is none."""
    return "-" if math.isnan(value) else form.format(value)

import json
import math
from typing import Any

import pytest

from benchmarks import report
from benchmarks.summary import summary, targets, without_nan

MACHINE = {
    "date": "2026-11-22T09:00:00+00:00",
    "processor": "Some CPU",
    "cores": 2,
    "memory_gb": 8.0,
    "python": "CPython 3.11.7",
    "redis_server": "7.0.15",
    "postgresql": "15.18",
    "load_average_before": 0.1,
    "load_average_after": 1.2,
}
TICKS = {
    "ticks_per_second": 10.0,
    "share": 1.0,
    "p50_ms": 12.0,
    "p99_ms": 34.0,
    "cpu_ms": 5.0,
    "server_cpu_ms": 4.0,
    "peak_memory_mb": 80.0,
}


def run(seconds: float) -> dict[str, Any]:
    return {
        "rate": {"messages": 1000, "seconds": seconds, "cpu_seconds": seconds / 2},
        "latency": {
            "messages": 10,
            "cpu_seconds": 0.01,
            "p50_seconds": 0.002,
            "p99_seconds": 0.009,
            "peak_memory_bytes": 50_000_000,
        },
        "server_cpu_seconds": 0.5,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    load = {"concurrency": 100, "rate": 200}
    return {
        "machine": MACHINE,
        "plan": {"rounds": 2, "noop": load, "write": load, "rabbit_noop": load, "rabbit_batch": load},
        "notes": ["noop: saq left out: saq not installed"],
        "noop": {
            "ours": [run(1.0), run(2.0)],
            "bare": [run(0.5), run(1.0)],
            "faststream": [run(20.0), run(40.0)],
            "taskiq": [run(4.0), run(8.0)],
            "saq": [],
        },
        "rabbit_noop": {
            "rabbit_ours": [run(1.0), run(2.0)],
            "rabbit_bare": [run(0.9), run(1.8)],
            "rabbit_dramatiq": [run(1.5), run(3.0)],
        },
        "rabbit_batch": {"rabbit_bulk": [run(1.0)], "rabbit_ours": [run(4.0)]},
        "rabbit_confirms": {"one by one": [100.0, 200.0], "window of 500": [600.0, 1400.0]},
        "rabbit_memory": {1_000: [80.0], 100_000: [100.0]},
        "cron": [
            {"contestant": "cron_ours", "jobs": 10, "history": 1_000_000, **TICKS},
            {"contestant": "cron_saq", "jobs": 10, "history": 0, **TICKS, "p50_ms": math.nan},
        ],
        "enqueue": {"without key": [(0.010, 0.011), (0.010, 0.012), (0.010, 0.011)]},
        "growth": {"inbox": {1_000: [10.0, 10.0], 1_000_000: [20.0, 20.0]}},
    }


def test_the_fastest_peer_is_the_one_to_beat(results: dict[str, Any]) -> None:
    found = {target.text: (round(target.value, 3), target.reached) for target in targets(results)}

    assert found["no-op, share of the bare loop"] == (0.5, True)
    assert found["no-op, times the fastest peer"] == (4.0, False)
    assert found["place-order transaction with enqueue, without key"] == (1.1, True)
    assert found["growth, inbox, at 1,000,000"] == (2.0, False)
    assert found["RabbitMQ no-op, share of the bare loop"] == (0.9, True)
    assert found["RabbitMQ no-op, times the fastest peer"] == (1.5, True)
    assert found["batch handler, times the single one"] == (4.0, True)
    assert found["confirms, a window to one by one"] == (6.5, True)
    assert found["peak memory, backlog of 100,000 to 1,000"] == (1.25, False)


def test_what_was_not_measured_has_no_target(results: dict[str, Any]) -> None:
    del results["noop"]["bare"], results["enqueue"], results["growth"], results["cron"]
    for name in [name for name in results if name.startswith("rabbit_")]:
        del results[name]

    assert [target.text for target in targets(results)] == ["no-op, times the fastest peer"]


def test_the_report_shows_every_part(results: dict[str, Any]) -> None:
    lines = "\n".join(report.text(results, {"inbox": "rows in the inbox"})).splitlines()

    assert lines[0].startswith(str(MACHINE["date"]))
    assert any(line.startswith("taskiq") and " 4.00" in line for line in lines)
    assert any(line.startswith("rows in the inbox") and line.endswith("2.00") for line in lines)
    assert any("miss  no-op, times the fastest peer: 4.00 (target >= 5)" in line for line in lines)
    assert not any(line.startswith("saq") and "-" not in line for line in lines)
    assert any(line.startswith("window of 500") and line.endswith(" 6.5") for line in lines)
    assert any(line.split() == ["100,000", "100"] for line in lines)
    assert any(line.startswith("ours") and " 1,000,000 " in line and " 34.0 " in line for line in lines)
    assert any(line.startswith("saq") and " - " in line for line in lines)
    assert "note: noop: saq left out: saq not installed" in lines


def test_the_summary_is_json(results: dict[str, Any]) -> None:
    found = json.loads(json.dumps(without_nan(summary(results)), allow_nan=False))

    assert found["noop"]["faststream"]["ours_times_as_fast"] == 20.0
    assert found["noop"]["ours"]["messages_per_second"] == 750.0
    assert found["growth"]["inbox"]["1000000"] == 2.0
    assert found["rabbit_batch"]["rabbit_ours"]["ours_times_as_fast"] == 4.0
    assert found["rabbit_confirms"]["window of 500"] == 6.5


def test_json_has_no_nan() -> None:
    assert without_nan({"a": [1.0, math.nan, (2, math.nan)]}) == {"a": [1.0, None, [2, None]]}


def test_columns_line_up() -> None:
    assert report.table([["", "msg/s"], ["ours", "1"], ["faststream", "10,000"]]) == (
        "             msg/s\nours             1\nfaststream  10,000"
    )

import json
import math
import time

import pytest

from benchmarks import cron
from benchmarks.environments import PeerMissingError
from benchmarks.stage import Stage
from benchmarks.ticks import Lags, TickSpec

SPEC = TickSpec("cron_ours", jobs=2, seconds=1, redis_url="", warmup=1)


async def test_runs_are_counted_by_when_they_were_due() -> None:
    # Given runs that were due before, during and after what is measured
    lags = Lags(SPEC)
    lags.begun(time.time())
    begins = float(int(time.time()) + SPEC.warmup)
    lags._begins = begins
    for due in (begins - 1, begins, begins, begins + 1):
        lags.begun(due)

    # Then those during it count, late ones too
    found = lags.figures()
    assert len(found["lags"]) == 2
    assert found["peak_memory_bytes"] > 1_000_000


def test_figures_are_those_of_ticks_that_were_due() -> None:
    said = {"lags": [0.01], "cpu_seconds": 0.5, "server_cpu_seconds": 1.0, "peak_memory_bytes": 80_000_000}

    found = cron.figures_of(said, SPEC)

    assert (found["ticks_per_second"], found["share"], found["p99_ms"]) == (1.0, 0.5, 10.0)
    assert (found["cpu_ms"], found["server_cpu_ms"], found["peak_memory_mb"]) == (250.0, 500.0, 80.0)
    assert math.isnan(cron.figures_of(said | {"lags": []}, SPEC)["p50_ms"])


def test_a_peer_that_fails_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(_: Stage, spec: TickSpec, history: int = 0) -> dict[str, float]:
        if spec.contestant == "cron_saq":
            raise PeerMissingError("saq not installed")
        return {"share": float(history)}

    monkeypatch.setattr(cron, "play", play)
    notes: list[str] = []
    stage = Stage.__new__(Stage)
    stage.redis = type("Redis", (), {"url": ""})()
    load = cron.CronLoad(jobs=(1, 10, 100), seconds=1, history=7)

    found = cron.measure(stage, load, 1, lambda _: None, notes)

    assert [(one["contestant"], one["jobs"]) for one in found if one["history"]] == [("cron_ours", 10)]
    assert sum(one["contestant"] == "cron_procrastinate" for one in found) == 3
    assert notes == ["cron: cron_saq left out: saq not installed"]
    assert json.dumps(found)

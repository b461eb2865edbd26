"""What is measured of RabbitMQ besides consumers: confirmed publishing, and memory under a backlog."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.match import IMPORT_PATH, ROOT, play
from benchmarks.plan import Plan
from benchmarks.stage import SHOP, Stage

TIMEOUT_S = 600
SINGLE, WINDOW = "one by one", "window of 500"
Say = Callable[[str], None]


def confirms(stage: Stage, plan: Plan, say: Say) -> dict[str, list[float]]:
    """Messages per second of each way to publish, one figure for each round; see `benchmarks.confirms`."""
    say(f"rabbit_confirms: {plan.rounds} rounds")
    stage.empty_rabbit()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, IMPORT_PATH))}
    arguments = [stage.rabbit_url, str(plan.confirms), str(plan.rounds)]
    command = [sys.executable, "-m", "benchmarks.confirms", *arguments]
    result = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S
    )
    found: dict[str, list[float]] = json.loads(result.stdout)
    return found


def times_single(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each way divided by one message at a time, paired by round."""
    single = found[SINGLE]
    return {
        way: statistics.median(a / b for a, b in zip(rates, single, strict=True))
        for way, rates in found.items()
    }


def memory(stage: Stage, plan: Plan, say: Say) -> dict[int, list[float]]:
    """Megabytes that our consumer had at most, by the backlog that it worked off."""
    found: dict[int, list[float]] = {}
    for backlog in plan.backlogs:
        say(f"rabbit_memory: {backlog:,} messages")
        stage.empty_rabbit()
        spec = plan.rabbit_noop.spec("rabbit_ours", "noop", stage.redis.url, stage.rabbit_url)
        spec = dataclasses.replace(spec, count=backlog, arrivals=20)
        peak = play(stage, spec, SHOP)["latency"]["peak_memory_bytes"]
        found[backlog] = [peak / 1e6]
    return found

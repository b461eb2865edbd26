"""Cron jobs: whether all ticks are run, and how long after they were due, beside other engines."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.environments import PeerMissingError, python_of
from benchmarks.figures import percentile
from benchmarks.match import IMPORT_PATH, ROOT, MatchError
from benchmarks.stage import Stage
from benchmarks.ticks import TickSpec

OURS = "cron_ours"
PEERS = ("cron_apscheduler", "cron_celery_beat", "cron_redbeat", "cron_procrastinate", "cron_saq")
SLOTS = 20
TIMEOUT_S = 300
HISTORY = """
INSERT INTO cron_run (job, due_at, trigger, state, attempt, next_try_at, deadline_at, finished_at)
SELECT 'bench_' || lpad((n % 10)::text, 3, '0'), at, 'schedule', 'succeeded', 1, at, at, at
FROM (SELECT n, date_trunc('second', now()) - n * interval '2 s' - interval '1 h' AS at
      FROM generate_series(1, {size}) AS n) AS past
"""
Say = Callable[[str], None]
Results = dict[str, Any]


@dataclass(frozen=True)
class CronLoad:
    """Numbers of jobs that are due each second, seconds that are measured, and rows of history, which are
    added for ours with the middle number of jobs.
    """

    jobs: Sequence[int]
    seconds: int
    history: int
    contestants: Sequence[str] = (OURS, *PEERS)


def measure(stage: Stage, load: CronLoad, rounds: int, say: Say, notes: list[str]) -> list[Results]:
    """The figures of each contestant for each number of jobs; who fails is left out, with a note."""
    found: list[Results] = []
    out: set[str] = set()
    for jobs, name, history in matches(load):
        if name in out:
            continue
        figures = []
        for number in range(rounds):
            say(f"cron: {jobs} jobs, {history:,} rows, round {number + 1} of {rounds}, {name}")
            try:
                figures.append(play(stage, TickSpec(name, jobs, load.seconds, stage.redis.url), history))
            except (MatchError, PeerMissingError) as error:
                if name == OURS:
                    raise
                out.add(name)
                notes.append(f"cron: {name} left out: {error}")
                break
        if figures:
            middle = {key: statistics.median(one[key] for one in figures) for key in figures[0]}
            found.append({"contestant": name, "jobs": jobs, "history": history, **middle})
    return found


def matches(load: CronLoad) -> Iterator[tuple[int, str, int]]:
    """Jobs, contestant and rows of history of each match."""
    for jobs in load.jobs:
        yield from ((jobs, name, 0) for name in load.contestants)
    yield load.jobs[len(load.jobs) // 2], OURS, load.history


def play(stage: Stage, spec: TickSpec, history: int = 0) -> dict[str, float]:
    """One contestant with an empty Redis and a fresh database. Raises MatchError and PeerMissingError."""
    stage.redis.flush()
    database = stage.database()
    try:
        if history:
            stage.sql(HISTORY.format(size=history), database)
            stage.sql("VACUUM ANALYZE cron_run", database)
        return figures_of(run(stage, spec, database), spec)
    finally:
        stage.drop(database)


def run(stage: Stage, spec: TickSpec, database: str) -> Results:
    """What the contestant says of itself, with the processor time of the servers."""
    env = {
        "PYTHONPATH": os.pathsep.join(map(str, IMPORT_PATH)),
        "DATABASE_URL": stage.url(database),
        "DB_POOL_SIZE": str(SLOTS + 5),
        "WORKER_CONCURRENCY": str(SLOTS),
        "WORKER_HEALTH_PORT": "0",
    }
    command = [python_of(spec.contestant), "-m", "benchmarks.ticks", json.dumps(dataclasses.asdict(spec))]
    before = stage.cpu_seconds()
    try:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_S,
        )
        said: Results = json.loads(result.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, IndexError, ValueError) as error:
        words = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise MatchError(f"{spec.contestant} failed: {words[-1] if words else error!r}") from error
    return said | {"server_cpu_seconds": stage.cpu_seconds() - before}


def figures_of(said: Results, spec: TickSpec) -> dict[str, float]:
    """Ticks per second, the share of those that were due, lags, and processor time for a tick."""
    lags: list[float] = said["lags"]
    due = spec.jobs * spec.seconds
    return {
        "ticks_per_second": len(lags) / spec.seconds,
        "share": len(lags) / due,
        "p50_ms": percentile(lags, 50) * 1e3,
        "p99_ms": percentile(lags, 99) * 1e3,
        "cpu_ms": said["cpu_seconds"] / due * 1e3,
        "server_cpu_ms": said["server_cpu_seconds"] / due * 1e3,
        "peak_memory_mb": said["peak_memory_bytes"] / 1e6,
    }

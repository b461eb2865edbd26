"""What is measured of an API: how long it takes to send or submit something, and how fast followers hear.

The API is one process of uvicorn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from benchmarks.figures import Figures, Target, percentile
from benchmarks.match import IMPORT_PATH, ROOT, MatchError
from benchmarks.stage import Stage
from support.ports import free_port
from support.workers import WorkerProcess

BARE, DELAY = "insert", "delay"
OURS = ("enqueue", "submit", "submit, from the table")
TIMEOUT_S = 600
JOBS = """
INSERT INTO job (id, kind, via, queue, owner, priority, state, payload, attempt, max_attempts, next_try_at,
                 deadline_at, runner, lease_until)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'bench.long_work.v1', 'table', 'llm', 'bench', 0, 'running', '{{}}', 1,
       5, now(), now() + interval '1 hour', 'me', now() + interval '1 hour'
FROM generate_series(1, {count}) AS n
"""
Say = Callable[[str], None]


def ask(stage: Stage, count: int, say: Say) -> dict[str, list[float]]:
    """Seconds of `count` requests of each way."""
    say(f"requests: {count} of each way")
    stage.redis.flush()
    database = stage.database()
    with api(stage, database) as (_, place):
        found: dict[str, list[float]] = run(
            stage, database, "benchmarks.asking", place, str(count), BARE, *OURS, DELAY
        )
    stage.drop(database)
    return found


def follow(stage: Stage, readers: int, events: int, pause: float, say: Say) -> Figures:
    """How long events take to `readers`, each of which follows a job of its own, and the API's memory."""
    say(f"readers: {readers:,}, {events} events each")
    database = stage.database()
    stage.sql(JOBS.format(count=readers), database)
    with api(stage, database) as (process, place):
        before = process.cpu_times()
        delays = run(stage, database, "benchmarks.reading", place, str(readers), str(events), str(pause))
        after = process.cpu_times()
        memory = process.memory_info().rss / 1e6
    stage.drop(database)
    if len(delays) != readers * events:
        raise MatchError(f"readers: {len(delays)} of {readers * events} events came")
    cpu = after.user + after.system - before.user - before.system
    return {
        "readers": readers,
        "events": len(delays),
        "p50_ms": percentile(delays, 50) * 1e3,
        "p99_ms": percentile(delays, 99) * 1e3,
        "api_mb": memory,
        "cpu_us": cpu / len(delays) * 1e6,
    }


@contextmanager
def api(stage: Stage, database: str) -> Iterator[tuple[psutil.Process, str]]:
    """An API; its process, and its address."""
    place = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "uvicorn", "benchmarks.api:app", "--port", place.rpartition(":")[2]]
    command += [
        "--no-access-log",
        "--log-level",
        "warning",
        "--timeout-graceful-shutdown",
        "1",
        "--backlog",
        "4096",
    ]
    env = {"DATABASE_URL": stage.url(database), "CELERY_BROKER_URL": stage.redis.url}
    with WorkerProcess("api", env, command=command, import_path=IMPORT_PATH) as process:
        process.wait_ready(url=f"http://{place}/health")
        yield psutil.Process(process.pid), place


def run(stage: Stage, database: str, *arguments: str) -> Any:
    """What a client prints."""
    env = {
        **os.environ,
        "DATABASE_URL": stage.url(database),
        "PYTHONPATH": os.pathsep.join(map(str, IMPORT_PATH)),
    }
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return json.loads(result.stdout)


def ask_figures(found: Mapping[str, Sequence[float]]) -> dict[str, Figures]:
    """Milliseconds of each way, and its ratio to a bare insert."""
    bare = found[BARE]
    return {
        way: {
            "p50_ms": percentile(seconds, 50) * 1e3,
            "p99_ms": percentile(seconds, 99) * 1e3,
            "p50_ratio": percentile(seconds, 50) / percentile(bare, 50),
            "p99_ratio": percentile(seconds, 99) / percentile(bare, 99),
        }
        for way, seconds in found.items()
    }


def targets(results: Mapping[str, Any]) -> Iterable[Target]:
    """What was aimed at."""
    if found := results.get("requests"):
        for way in OURS:
            ratio = ask_figures(found)[way]["p99_ratio"]
            yield Target(f"{way}: p99, times a bare insert's", ratio, 2.0, at_least=False)
    if found := results.get("readers"):
        yield Target(f"{found['readers']:,} readers: p99 ms", found["p99_ms"], 250.0, at_least=False)

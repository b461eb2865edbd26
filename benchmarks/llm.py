"""Calls of language models that take seconds: time, memory and processor time for each that is in flight.

Ours runs jobs on one process of one core: it reads a document, streams the answer to followers, stores it.
The others make the calls and nothing else, as many at once as they are set to.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from benchmarks.crew import Crew
from benchmarks.environments import PeerMissingError, python_of
from benchmarks.figures import Figures, Target, medians, ratio
from benchmarks.match import IMPORT_PATH, MatchError, Side, environment
from benchmarks.spec import Spec
from benchmarks.stage import Stage
from benchmarks.tasks import celery_environment, publish

OURS = "llm_ours"
PREFORK = "llm_prefork"
EVERY_S = 0.25
POOL = 18
FILL = """
WITH written AS (
    INSERT INTO document (title, body) SELECT 'A title', repeat('A sentence of it. ', 50)
    FROM generate_series(1, {count}) RETURNING id)
INSERT INTO job (id, kind, via, queue, owner, priority, state, payload, max_attempts, next_try_at,
                 deadline_at)
SELECT gen_random_uuid(), 'shop.document.summarise.v1', 'table', 'llm', 'bench ' || id % 10, 0, 'queued',
       jsonb_build_object('document_id', id), 5, now(), now() + interval '1 hour' FROM written
"""
DONE = "SELECT count(*) FROM job WHERE state = 'succeeded'"
TOOK = """
SELECT extract(epoch FROM max(finished_at) - min(created_at)), sum(attempt) FROM job WHERE state = 'succeeded'
"""
PER_MIB, MIB = "calls_per_mib", 1.048576
Say = Callable[[str], None]
Results = dict[str, Any]


@dataclass(frozen=True)
class LlmLoad:
    """`jobs` calls of `seconds`, answered in `pieces`. The others have so many at once as `at_once` says, and
    twice as many calls.
    """

    jobs: int
    seconds: float
    pieces: int
    at_once: Mapping[str, int]

    def spec(self, name: str, redis_url: str) -> Spec:
        """One contestant's."""
        most = self.at_once.get(name, self.jobs)
        count = self.jobs if name == OURS else 2 * most
        return Spec(name, "llm", redis_url, most, 0, count)


def measure(stage: Stage, load: LlmLoad, rounds: int, say: Say, notes: list[str]) -> dict[str, list[Figures]]:
    """The rounds of each contestant; who fails is left out, with a note."""
    found: dict[str, list[Figures]] = {}
    out: set[str] = set()
    for number in range(rounds):
        for name in (OURS, *load.at_once):
            if name in out:
                continue
            say(f"llm: round {number + 1} of {rounds}, {name}")
            try:
                found.setdefault(name, []).append(play(stage, load, name))
            except (MatchError, PeerMissingError) as error:
                if name == OURS:
                    raise
                out.add(name)
                notes.append(f"llm: {name} left out: {error}")
    return found


def play(stage: Stage, load: LlmLoad, name: str) -> Figures:
    """One contestant. Raises MatchError and PeerMissingError."""
    spec, python = load.spec(name, stage.redis.url), python_of(name)
    stage.redis.flush()
    database = stage.database()
    try:
        with provider(load) as (side, url):
            env = environment(stage, spec, database) | celery_environment(spec)
            env |= {"LLM_BASE_URL": url, "DB_POOL_SIZE": str(POOL), "DB_MAX_OVERFLOW": "10"}
            env |= {"JOB_CONCURRENCY": str(load.jobs), "JOB_PER_OWNER": str(load.jobs)}
            return ours(stage, spec, env, side, database) if name == OURS else other(spec, env, python, side)
    finally:
        stage.drop(database)


@contextmanager
def provider(load: LlmLoad) -> Iterator[tuple[Side, str]]:
    """Have answers given, in a process of its own; the process, and its address."""
    path = {"PYTHONPATH": os.pathsep.join(map(str, IMPORT_PATH))}
    command = [sys.executable, "-m", "benchmarks.provider", str(load.seconds), str(load.pieces)]
    with Side("provider", command, path) as side:
        yield side, side.hear()["url"]


def ours(stage: Stage, spec: Spec, env: Mapping[str, str], side: Side, database: str) -> Figures:
    """Jobs in the table, all at once, for a worker that waits for them."""

    def done() -> int:
        return int(str(stage.sql(DONE, database)[0][0]))

    with Crew(spec, env, python_of(spec.contestant), cores=[0]) as crew:
        crew.go()
        stage.sql(FILL.format(count=1), database)
        crew.until(1, done, EVERY_S)  # warm, and its memory is what it has without jobs
        stage.sql("DELETE FROM job", database)
        side.ask()
        with Peak(crew) as peak:
            cpu = crew.cpu_seconds()
            stage.sql(FILL.format(count=spec.count), database)
            crew.until(spec.count, done, EVERY_S)
            cpu = crew.cpu_seconds() - cpu
        took = stage.sql(TOOK, database)[0]
    return figures(spec.count, float(str(took[0])), cpu, peak, side)


def other(spec: Spec, env: Mapping[str, str], python: str, side: Side) -> Figures:
    """A backlog in the broker, for a worker that begins."""
    publish(spec, env, python)
    with Crew(spec, env, python) as crew, Peak(crew) as peak:
        cpu = crew.cpu_seconds()
        crew.go()
        crew.until(1)
        begin = time.monotonic()
        crew.until(spec.count)
        seconds = (time.monotonic() - begin) * 2  # the second half of it
        cpu = crew.cpu_seconds() - cpu
    return figures(spec.count, seconds, cpu, peak, side)


def figures(count: int, seconds: float, cpu: float, peak: Peak, side: Side) -> Figures:
    """What it comes to. Memory without calls is that of the beginning."""
    most = side.ask()["peak"]
    return {
        "calls": count,
        "seconds": seconds,
        "in_flight": most,
        "peak_mb": peak.most,
        "kb_call": max(0.0, peak.most - peak.first) / most * 1e3,
        "cpu_ms": cpu / count * 1e3,
        PER_MIB: most / (peak.most / MIB),
    }


class Peak:
    """The most memory that all processes of a worker had together, looked at a few times a second."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.first = self.most = 0.0

    def _look(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.most = max(self.most, sum(self._crew.memory_mb()))

    def __enter__(self) -> Self:
        self.first = self.most = sum(self._crew.memory_mb())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def targets(found: Mapping[str, Sequence[Figures]], load: Mapping[str, Any]) -> Iterable[Target]:
    """What was aimed at: five seconds of a call and three of everything else."""
    if not found.get(OURS):
        return
    mine = medians(found[OURS])
    text = f"{load['jobs']:,} jobs of {load['seconds']:g} s on one worker"
    yield Target(f"{text}: seconds", mine["seconds"], load["seconds"] + 3, at_least=False)
    yield Target(f"{text}: peak MiB", mine["peak_mb"] / MIB, 250, at_least=False)
    if found.get(PREFORK):
        times = ratio(found[OURS], found[PREFORK], PER_MIB)
        yield Target("calls in flight per MiB, times Celery prefork", times, 50)

"""Tasks: ours on Celery, Celery written by hand, other engines; how many a second, and in how much memory.

A backlog lies ready before a worker of `children` processes begins. Everybody uses Redis, but for
procrastinate, which has its queue in PostgreSQL.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.crew import Crew
from benchmarks.environments import PeerMissingError, python_of
from benchmarks.figures import Figures, Target, medians, ratio
from benchmarks.match import MatchError, environment, side
from benchmarks.spec import Spec
from benchmarks.stage import Stage
from benchmarks.work import TYPE

CELERY = ("tasks_plain", "tasks_same", "tasks_bridge", "tasks_sync", "tasks_run", "tasks_guide")
PEERS = ("tasks_dramatiq", "taskiq", "saq", "tasks_procrastinate")
OURS = "tasks_tracked"
MEASURED = (OURS, "tasks_plain", "tasks_same", "tasks_bridge", "tasks_run")
ROWS = ("tasks_tracked", "tasks_same")
AT_ONCE = {"noop": 100, "write": 8}
JOBS = """
INSERT INTO job (id, kind, via, queue, owner, priority, state, payload, max_attempts, next_try_at,
                 deadline_at, sent_at, sends)
SELECT lpad(to_hex(n), 32, '0')::uuid, '{kind}', 'celery', 'default', 'bench', 0, 'queued',
       jsonb_build_object('order_id', n), 5, now(), now() + interval '1 day', now(), 1
FROM generate_series(1, {count}) AS n
"""
RATE = "tasks_per_second"
Say = Callable[[str], None]
Results = dict[str, Any]
Found = Mapping[str, Mapping[str, Sequence[Figures]]]


@dataclass(frozen=True)
class TasksLoad:
    """`children` processes; of a backlog, `warmup` tasks are not measured; `count` are, by what they do."""

    children: int
    warmup: int
    count: Mapping[str, int]
    contestants: Sequence[str] = (OURS, *CELERY, *PEERS)

    @property
    def orders(self) -> int:
        """Each task is about an order of its own."""
        return self.warmup + max(self.count.values())


def measure(stage: Stage, load: TasksLoad, rounds: int, say: Say, notes: list[str]) -> Results:
    """The rounds of each contestant, by what tasks do; who fails is left out, with a note."""
    found: dict[str, dict[str, list[Figures]]] = {task: {} for task in load.count}
    out: set[str] = set()
    for task in load.count:
        for number in range(rounds):
            for name in load.contestants:
                if name in out:
                    continue
                say(f"tasks: {task}, round {number + 1} of {rounds}, {name}")
                try:
                    found[task].setdefault(name, []).append(play(stage, load, name, task))
                except (MatchError, PeerMissingError) as error:
                    if name in MEASURED:
                        raise
                    out.add(name)
                    notes.append(f"tasks: {name} left out: {error}")
    return found


def play(stage: Stage, load: TasksLoad, name: str, task: str) -> Figures:
    """One contestant with an empty Redis and a fresh database. Raises MatchError and PeerMissingError."""
    celery = name.startswith("tasks_") and name not in PEERS
    at_once = load.children if celery else AT_ONCE[task]
    spec = Spec(name, task, stage.redis.url, at_once, load.warmup, load.count[task])
    python = python_of(name)
    stage.redis.flush()
    database = stage.database()
    try:
        env = environment(stage, spec, database) | celery_environment(spec)
        if name in ROWS:
            stage.sql(JOBS.format(kind=TYPE, count=spec.backlog), database)
        publish(spec, env, python)
        with Crew(spec, env, python, processes=1 if celery else load.children) as crew:
            figures = watch(stage, crew, spec)
        check(stage, spec, database)
        return figures
    finally:
        stage.drop(database)


def celery_environment(spec: Spec) -> dict[str, str]:
    """What Celery's processes read."""
    return {"CELERY_BROKER_URL": spec.redis_url, "REMAP_SIGTERM": "SIGQUIT"}


def publish(spec: Spec, env: Mapping[str, str], python: str) -> None:
    """Have the backlog sent."""
    with side("publish", spec, env, python) as publisher:
        publisher.hear()
        publisher.go()
        publisher.wait()


def watch(stage: Stage, crew: Crew, spec: Spec) -> Figures:
    """Let it work, and measure it from the end of the warm-up to the end of the backlog."""
    crew.go()
    first = crew.until(spec.warmup)
    begin, cpu, servers = time.perf_counter(), crew.cpu_seconds(), stage.cpu_seconds()
    done = crew.until(spec.backlog) - first
    seconds = time.perf_counter() - begin
    cpu, servers = crew.cpu_seconds() - cpu, stage.cpu_seconds() - servers
    memory = crew.memory_mb()
    # Celery's first process does no tasks.
    children = memory[1:] if len(memory) > spec.concurrency else memory
    return {
        RATE: done / seconds,
        "cpu_us": cpu / done * 1e6,
        "server_cpu_us": servers / done * 1e6,
        "mb_child": statistics.mean(children or [float("nan")]),
        "mb_all": sum(memory) if memory else float("nan"),
    }


def check(stage: Stage, spec: Spec, database: str) -> None:
    """Raises MatchError when not all was done that was counted."""
    if spec.contestant in ROWS:
        done = stage.sql("SELECT count(*) FROM job WHERE state = 'succeeded'", database)[0][0]
    elif spec.task == "write":
        done = stage.sql("SELECT count(*) FROM order_event WHERE kind = 'processed'", database)[0][0]
    else:
        return
    if done != spec.backlog:
        raise MatchError(f"{spec.contestant}: {done} of {spec.backlog} tasks have had an effect")


def targets(found: Found) -> Iterable[Target]:
    """What was aimed at."""
    write = found.get("write", {})

    def share(text: str, one: str, other: str, limit: float) -> Iterable[Target]:
        if write.get(one) and write.get(other):
            yield Target(text, ratio(write[one], write[other], RATE), limit)

    yield from share("tracked task, share of plain Celery with the same writes", OURS, "tasks_same", 0.7)
    yield from share("async bridge, share of a task that blocks", "tasks_bridge", "tasks_sync", 0.9)
    yield from share("async bridge, times asyncio.run per task", "tasks_bridge", "tasks_run", 3.0)


def summary(found: Found) -> Results:
    """The medians."""
    return {task: {name: medians(rounds) for name, rounds in one.items()} for task, one in found.items()}

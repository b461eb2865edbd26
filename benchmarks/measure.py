"""The parts of a run: the tasks with their contestants, `enqueue`, the relay, growth."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks import cron, growth, latency, llm, machine, rabbit, tasks
from benchmarks.environments import PeerMissingError, python_of
from benchmarks.match import IMPORT_PATH, ROOT, MatchError, play
from benchmarks.plan import COMPARISONS, PEERS, Plan, is_rabbit
from benchmarks.stage import SHOP, Stage
from benchmarks.summary import summary

BEGIN = time.perf_counter()
ENQUEUE_TIMEOUT_S = 300
MOST_ROUNDS = 3  # of what takes long

Results = dict[str, Any]


def measure(stage: Stage, plan: Plan) -> Results:
    """Everything that the plan asks for, as it goes into the JSON file."""
    stage.build(plan.orders)
    results: Results = {"machine": machine.describe(stage), "plan": dataclasses.asdict(plan), "notes": []}
    for section in plan.sections:
        if section in COMPARISONS:
            results[section] = compare(stage, plan, section, results["notes"])
        elif section == "relay":
            say(f"relay: {plan.rounds} rounds")
            results[section] = {
                "relay": [round_of(stage, plan, "relay", "relay") for _ in range(plan.rounds)]
            }
        elif section == "enqueue":
            results[section] = enqueue(stage, plan.enqueue_pairs)
        elif section == "cron":
            results[section] = cron.measure(stage, plan.cron, 1, say, results["notes"])
        elif section == "rabbit_confirms":
            results[section] = rabbit.confirms(stage, plan, say)
        elif section == "rabbit_memory":
            results[section] = rabbit.memory(stage, plan, say)
        elif section == "growth":
            results[section] = growth.measure(stage, plan, say)
        else:
            results[section] = jobs(stage, plan, section, results["notes"])
    results["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    results["summary"] = summary(results)
    return results


def jobs(stage: Stage, plan: Plan, section: str, notes: list[str]) -> Any:
    """The parts about tasks, long-running jobs, and the API in front of them."""
    match section:
        case "tasks":
            return tasks.measure(stage, plan.tasks, min(plan.rounds, MOST_ROUNDS), say, notes)
        case "requests":
            return latency.ask(stage, plan.requests, say)
        case "llm":
            return llm.measure(stage, plan.llm, min(plan.rounds, MOST_ROUNDS), say, notes)
        case _:
            load = plan.readers
            return latency.follow(stage, load.readers, load.events, load.pause, say)


def compare(stage: Stage, plan: Plan, section: str, notes: list[str]) -> dict[str, list[Results]]:
    """The contestants in turn, round after round. One that fails is left out from then on, with a note."""
    found: dict[str, list[Results]] = {}
    out: set[str] = set()
    for number in range(plan.rounds):
        for name in COMPARISONS[section].contestants:
            if name in out or name not in plan.contestants:
                continue
            say(f"{section}: round {number + 1} of {plan.rounds}, {name}")
            try:
                found.setdefault(name, []).append(round_of(stage, plan, section, name))
            except (MatchError, PeerMissingError) as error:
                if name not in PEERS:
                    raise
                out.add(name)
                notes.append(f"{section}: {name} left out: {error}")
    return found


def round_of(stage: Stage, plan: Plan, section: str, contestant: str) -> Results:
    """One contestant at one task, with empty brokers and a fresh database."""
    task = COMPARISONS[section].task if section in COMPARISONS else section
    rabbit_url = stage.rabbit_url if is_rabbit(section) else ""
    spec = plan.load(section).spec(contestant, task, stage.redis.url, rabbit_url)
    stage.redis.flush()
    if rabbit_url:
        stage.empty_rabbit()
    if task == "noop":
        return play(stage, spec, SHOP, python_of(contestant))
    database = stage.database()
    try:
        run = play(stage, spec, database, python_of(contestant))
        if task == "write" and (rows := stage.count("inbox_message", database)) != spec.messages:
            raise MatchError(f"{contestant}: {rows} of {spec.messages} messages were written")
        return run
    finally:
        stage.drop(database)


def enqueue(stage: Stage, pairs: int) -> Results:
    """See `benchmarks.enqueue`."""
    say(f"enqueue: {pairs} pairs, without a key and with one")
    database = stage.database()
    env = {
        **os.environ,
        "DATABASE_URL": stage.url(database),
        "PYTHONPATH": os.pathsep.join(map(str, IMPORT_PATH)),
    }
    command = [sys.executable, "-m", "benchmarks.enqueue", str(pairs)]
    result = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=ENQUEUE_TIMEOUT_S
    )
    stage.drop(database)
    found: Results = json.loads(result.stdout)
    return found


def say(text: str) -> None:
    """Progress, apart from the report."""
    print(f"{time.perf_counter() - BEGIN:6.1f} s  {text}", file=sys.stderr, flush=True)

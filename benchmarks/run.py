"""Throughput, latency, memory and growth, side by side with a bare loop and with other engines.

    python benchmarks/run.py                          everything, about twenty minutes
    python benchmarks/run.py --quick                  a first impression, within a minute
    python benchmarks/run.py --only noop,ours,bare    one part, two contestants
    python benchmarks/run.py --json results.json      the figures for machines too

It starts its own Redis and PostgreSQL. Contestants take turns, round after round, each in processes of its
own; the table shows medians, and ratios within rounds. Targets that are missed are remarks, not failures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# As a script, the first entry of the path is this folder, whose names are not meant to be imported.
sys.path[:1] = [str(ROOT), *(str(ROOT / part) for part in ("templates", "examples/shop", "tests"))]

from benchmarks import growth, machine, report  # noqa: E402  # needs the path
from benchmarks.environments import PeerMissingError, python_of  # noqa: E402
from benchmarks.match import IMPORT_PATH, MatchError, play  # noqa: E402
from benchmarks.plan import CONTESTANTS, FULL, PEERS, QUICK, SECTIONS, TASKS, Plan  # noqa: E402
from benchmarks.stage import SHOP, Stage  # noqa: E402

BEGIN = time.perf_counter()

Results = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 unless something could not be run at all."""
    args = arguments(argv)
    with Stage() as stage:
        results = measure(stage, plan_for(args))
    show(results)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join((*SECTIONS, *CONTESTANTS))
    parser.add_argument("--quick", action="store_true", help="small amounts, one round")
    parser.add_argument("--only", default="", metavar="NAME,…", help=f"parts and contestants: {names}")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    args = parser.parse_args(argv)
    unknown = chosen(args.only) - {*SECTIONS, *CONTESTANTS}
    if unknown:
        parser.error(f"--only: no {', '.join(sorted(unknown))}; there are {names}")
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds: at least 1")
    return args


def chosen(text: str) -> set[str]:
    """The names in a list with commas."""
    return {name.strip() for name in text.split(",")} - {""}


def plan_for(args: argparse.Namespace) -> Plan:
    """What to measure. Contestants alone narrow the tasks that have contestants."""
    plan = QUICK if args.quick else FULL
    if args.rounds:
        plan = dataclasses.replace(plan, rounds=args.rounds, growth_rounds=args.rounds)
    names = chosen(args.only)
    sections = [name for name in SECTIONS if name in names] or (TASKS if names else SECTIONS)
    contestants = [name for name in CONTESTANTS if name in names] or CONTESTANTS
    return dataclasses.replace(plan, sections=tuple(sections), contestants=tuple(contestants))


def measure(stage: Stage, plan: Plan) -> Results:
    """Everything that the plan asks for, as it goes into the JSON file."""
    stage.build(plan.orders)
    results: Results = {"machine": machine.describe(stage), "plan": dataclasses.asdict(plan), "notes": []}
    for section in plan.sections:
        if section in TASKS:
            results[section] = compare(stage, plan, section, results["notes"])
        elif section == "relay":
            say(f"relay: {plan.rounds} rounds")
            results[section] = {
                "relay": [round_of(stage, plan, "relay", "relay") for _ in range(plan.rounds)]
            }
        elif section == "enqueue":
            results[section] = enqueue(stage, plan.enqueue_pairs)
        else:
            results[section] = growth.measure(stage, plan, say)
    results["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    return results


def compare(stage: Stage, plan: Plan, task: str, notes: list[str]) -> dict[str, list[Results]]:
    """The contestants in turn, round after round. One that fails is left out from then on, with a note."""
    found: dict[str, list[Results]] = {}
    out = {"bare_bytes"} if task == "write" else set()
    for number in range(plan.rounds):
        for name in plan.contestants:
            if name in out:
                continue
            say(f"{task}: round {number + 1} of {plan.rounds}, {name}")
            try:
                found.setdefault(name, []).append(round_of(stage, plan, task, name))
            except (MatchError, PeerMissingError) as error:
                if name not in PEERS:
                    raise
                out.add(name)
                notes.append(f"{task}: {name} left out: {error}")
    return found


def round_of(stage: Stage, plan: Plan, task: str, contestant: str) -> Results:
    """One contestant at one task, with an empty Redis and a fresh database."""
    spec = plan.load(task).spec(contestant, task, stage.redis.url)
    stage.redis.flush()
    if task == "noop":
        return play(stage, spec, SHOP, python_of(contestant))
    database = stage.database()
    try:
        return play(stage, spec, database, python_of(contestant))
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
    result = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    stage.drop(database)
    found: Results = json.loads(result.stdout)
    return found


def show(results: Results) -> None:
    """The readable report."""
    print("\n".join(report.text(results, {name: kind.text for name, kind in growth.KINDS.items()})))


def say(text: str) -> None:
    """Progress, apart from the report."""
    print(f"{time.perf_counter() - BEGIN:6.1f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

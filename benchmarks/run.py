"""Throughput, latency, memory and growth, side by side with a bare loop and with other engines.

    python benchmarks/run.py                          everything, about an hour
    python benchmarks/run.py --quick                  a first impression, within two minutes
    python benchmarks/run.py --only noop,ours,bare    one part, two contestants
    python benchmarks/run.py --only rabbit_noop       one part
    python benchmarks/run.py --json results.json      the figures for machines too

It starts its own Redis, PostgreSQL and RabbitMQ. Contestants take turns, round after round, each in processes
of its own; the table shows medians, and ratios within rounds. Targets that are missed are remarks, not
failures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Run as a script, Python puts this folder on the path, and its names are not meant to be found there.
sys.path[:] = [
    *(str(ROOT / part) for part in (".", "templates", "examples/shop", "tests")),
    *(entry for entry in sys.path if Path(entry).resolve() != HERE),
]

from benchmarks import growth, report  # noqa: E402  # needs the path
from benchmarks.measure import measure  # noqa: E402
from benchmarks.plan import COMPARISONS, CONTESTANTS, FULL, QUICK, SECTIONS, Plan  # noqa: E402
from benchmarks.stage import Stage  # noqa: E402
from benchmarks.summary import Results, without_nan  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 unless something could not be run at all."""
    args = arguments(argv)
    plan = plan_for(args)
    with Stage(rabbit=plan.uses_rabbit) as stage:
        results = measure(stage, plan)
    show(results)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(without_nan(results), indent=1) + "\n")
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
    """What to measure. Contestants alone mean the comparisons in which they are."""
    plan = QUICK if args.quick else FULL
    if args.rounds:
        plan = dataclasses.replace(plan, rounds=args.rounds, growth_rounds=args.rounds)
    names = chosen(args.only)
    contestants = [name for name in CONTESTANTS if name in names] or CONTESTANTS
    theirs = [name for name, one in COMPARISONS.items() if set(one.contestants) & set(contestants)]
    sections = [name for name in SECTIONS if name in names] or (theirs if names else SECTIONS)
    return dataclasses.replace(plan, sections=tuple(sections), contestants=tuple(contestants))


def show(results: Results) -> None:
    """The readable report."""
    print("\n".join(report.text(results, {name: kind.text for name, kind in growth.KINDS.items()})))


if __name__ == "__main__":
    sys.exit(main())

"""Looks at cron jobs, and runs, pauses and resumes them.

    python -m app.workers.cron list
    python -m app.workers.cron history sales_report --limit 50
    python -m app.workers.cron run-now sales_report
    python -m app.workers.cron run-now sales_report --due 2026-03-29T03:00
    python -m app.workers.cron pause sales_report
    python -m app.workers.cron resume sales_report

Data goes to stdout, remarks to stderr; with --format json it is one JSON value. Exit codes: 0 done; 1 the
database is away, or is without the tables; 2 wrong usage; 3 there is no such job; 4 that run must not be; 78
the settings or the jobs are refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.core import cron_manage
from app.core.cron_job import CronJob
from app.core.cron_jobs import collect
from app.core.cron_manage import JobInfo, NotDueError, RunInfo
from app.core.failures import describe
from app.core.gate import close_connections
from app.core.lifecycle import EXIT_SETTINGS
from app.core.outcomes import RefusedToStartError
from app.core.worker_settings import refusals

EXIT_DONE, EXIT_FAILED, EXIT_MISSING, EXIT_REFUSED = 0, 1, 3, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = parser().parse_args(argv)
    if lines := refusals():
        remark("\n".join(["settings refused:", *lines]))
        return EXIT_SETTINGS
    try:
        return asyncio.run(run(args, {job.name: job for job in collect()}))
    except RefusedToStartError as error:
        remark(str(error))
        return EXIT_SETTINGS
    except NotDueError as error:
        remark(str(error))
        return EXIT_REFUSED
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        remark(describe(error))
        return EXIT_FAILED


async def run(args: argparse.Namespace, jobs: dict[str, CronJob]) -> int:
    """Do what `args` ask for."""
    try:
        if args.command == "list":
            return await list_(args, list(jobs.values()))
        if args.command == "history":
            return await history(args, known=args.job in jobs)
        if args.job not in jobs:
            remark(f"no job named {args.job}; there are: {', '.join(jobs)}")
            return EXIT_MISSING
        return await change(args, jobs[args.job])
    finally:
        await close_connections()


async def list_(args: argparse.Namespace, jobs: Sequence[CronJob]) -> int:
    """Print one line for each job, and those that only the database knows."""
    found = await cron_manage.states(jobs)
    show(args, [asdict(job) for job in found], [job_line(job) for job in found])
    if names := await cron_manage.forgotten(jobs):
        remark(f"in the database, but no longer in app.jobs: {', '.join(names)}")
    return EXIT_DONE


async def history(args: argparse.Namespace, *, known: bool) -> int:
    """Print the latest runs of a job."""
    runs = await cron_manage.history(args.job, args.limit)
    if not runs and not known:
        remark(f"neither a job nor a run is named {args.job}")
        return EXIT_MISSING
    show(args, [asdict(run) for run in runs], [run_line(run) for run in runs])
    return EXIT_DONE


async def change(args: argparse.Namespace, job: CronJob) -> int:
    """Run, pause or resume a job."""
    match args.command:
        case "run-now":
            due = args.due.replace(tzinfo=job.schedule.zone) if args.due and not args.due.tzinfo else args.due
            run_, new = await cron_manage.run_now(job, due)
            show(args, asdict(run_) | {"new": new}, [run_line(run_)])
            if not new:
                remark("that run was there already")
        case "pause":
            await cron_manage.pause(job)
            remark(f"{job.name} is paused; what runs goes on")
        case "resume":
            paused = await cron_manage.resume(job)
            remark(f"{job.name} goes on" if paused else f"{job.name} was not paused")
    return EXIT_DONE


def job_line(job: JobInfo) -> str:
    """One line for people: name, schedule, next due time, and how the last run ended."""
    due = f"next {stamp(job.next_due_at)}" if job.next_due_at else "never again"
    state = f"paused since {stamp(job.paused_at)}" if job.paused_at else due
    last = f"{job.last.state} {stamp(job.last.due_at)}" if job.last else "no run yet"
    return "\t".join([job.name, job.schedule, state, last, *([f"{job.open} open"] if job.open else [])])


def run_line(run_: RunInfo) -> str:
    """One line for people: due time, state, why it ran, attempts, start, duration, error."""
    took = "-"
    if run_.started_at and run_.finished_at:
        took = f"{(run_.finished_at - run_.started_at).total_seconds():.1f} s"
    cells = (stamp(run_.due_at), run_.state, run_.trigger, str(run_.attempt), stamp(run_.started_at), took)
    return "\t".join([*cells, run_.error or "-"])


def stamp(at: datetime | None) -> str:
    """A time to the second, with its offset from UTC."""
    return at.isoformat(timespec="seconds") if at else "-"


def show(args: argparse.Namespace, data: Any, lines: Sequence[str]) -> None:
    """Print data as JSON, or as lines for people."""
    text = json.dumps(data, default=datetime.isoformat) if args.format == "json" else "\n".join(lines)
    sys.stdout.write(text + "\n" if text else "")


def remark(text: str) -> None:
    """A line for whoever looks on."""
    sys.stderr.write(text + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m app.workers.cron",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    form = argparse.ArgumentParser(add_help=False)
    form.add_argument("--format", choices=("text", "json"), default="text")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "list": "all jobs, when they are due next, and how their last runs ended",
        "history": "the latest runs of a job, the newest first",
        "run-now": "run a job now; a run that waits or goes on is the one that is meant",
        "pause": "start no more runs of a job",
        "resume": "start runs of a job again",
    }
    added = {name: commands.add_parser(name, help=text, parents=[form]) for name, text in texts.items()}
    for name in ("history", "run-now", "pause", "resume"):
        added[name].add_argument("job", metavar="JOB", help="its name")
    added["history"].add_argument("--limit", type=positive, default=20, metavar="N", help="at most N (20)")
    due = "the run of this due time, also one that failed or was skipped; without an offset in the job's zone"
    added["run-now"].add_argument("--due", type=datetime.fromisoformat, metavar="TIME", help=due)
    return found


def positive(text: str) -> int:
    """A number of runs."""
    value = int(text)
    if not 1 <= value <= 10_000:
        raise argparse.ArgumentTypeError("a number from 1 to 10000 is needed")
    return value


if __name__ == "__main__":
    sys.exit(main())

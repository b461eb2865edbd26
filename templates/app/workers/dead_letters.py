"""Looks at the dead letters of a consumer or task, and replays, drops, exports and imports them.

    python -m app.workers.dead_letters order_paid list --newest
    python -m app.workers.dead_letters order_paid groups --since 2h
    python -m app.workers.dead_letters order_paid show 1700000000000-0
    python -m app.workers.dead_letters order_paid replay --reason "503 Service" --rate 20
    python -m app.workers.dead_letters order_paid drop --type shop.order.paid.v9 --yes
    python -m app.workers.dead_letters order_paid export letters.jsonl

Those of jobs belong to `job_dispatcher`, `llm_jobs` and `webhooks`, whichever of them there is; those of
what was no task at all to `celery`.
Data goes to stdout, remarks to stderr. Exit codes: 0 done; 1 the broker is away, or not all could be done,
and the command may be repeated; 2 wrong usage; 3 there is no letter with an id that was given; 4 nothing
was dropped for want of --yes; 78 the settings are refused; 130 interrupted, and may be repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from typing import Any

from app.core import letter_commands as commands
from app.core.dead_letters import DeadLetters, Wanted
from app.core.letter_commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, remark
from app.core.lifecycle import EXIT_SETTINGS
from app.core.outcomes import WorkerError
from app.core.worker_settings import refusals
from app.workers.run import available

Command = Callable[[DeadLetters, argparse.Namespace], Awaitable[int]]
TASKS = "app.tasks"
# Not imported above: only projects with Celery have it.
CELERY = "app.core.celery_letters"
JOBS = ("app.workers.job_dispatcher", "app.workers.llm_jobs", "app.workers.webhooks")
AGO = re.compile(r"(\d{1,5})([smhd])")
REPLACE = "backslashreplace"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NoLettersError(WorkerError):
    """What was named keeps no dead letters."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = parsed(argv)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, REPLACE), (sys.stderr, REPLACE)):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)
    if lines := refusals():
        remark("\n".join(["settings refused:", *lines]))
        return EXIT_SETTINGS
    try:
        return asyncio.run(run(args))
    except KeyboardInterrupt:
        remark("interrupted; the command may be repeated")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough; Python's farewell to stdout would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (WorkerError, OSError) as error:
        remark(str(error))
        return EXIT_USAGE if isinstance(error, NoLettersError) else EXIT_FAILED


async def run(args: argparse.Namespace) -> int:
    """Do what `args` ask for."""
    letters = letters_in(args.module, args.lane)
    try:
        code: int = await args.run(letters, args)
        return code
    finally:
        await letters.close()


def owners() -> dict[str, str]:
    """Names and modules of all that may have dead letters; of one name, the consumer comes first."""
    found = {name: path for name, path in available() if path in JOBS or path.startswith("app.consumers.")}
    spec = importlib.util.find_spec(TASKS)
    tasks = pkgutil.iter_modules(spec.submodule_search_locations) if spec else ()
    celery = {task.name: f"{TASKS}.{task.name}" for task in tasks}
    if celery:
        celery["celery"] = CELERY
    return found | {name: path for name, path in celery.items() if name not in found}


def letters_in(path: str, lane: str) -> DeadLetters:
    """The dead letters of what is in a module. Raises NoLettersError."""
    module = importlib.import_module(path)
    if path != CELERY and not path.startswith(f"{TASKS}."):
        return letters_of(module.worker(), lane)
    source = "celery" if path == CELERY else getattr(getattr(module, "consumer", None), "topic", None)
    if source is None:
        raise NoLettersError(f"{path} has no dead letters: those of jobs belong to job_dispatcher")
    letters: DeadLetters = importlib.import_module(CELERY).dead_letters(source)
    return letters


def letters_of(worker: Any, lane: str) -> DeadLetters:
    """The dead letters of `worker`, or of one of its lanes. Raises NoLettersError."""
    lanes = {one.name.rpartition(".")[2]: one for one in getattr(worker, "workers", ())}
    owner = lanes.get(lane) if lane else worker
    if owner is None or not hasattr(owner, "dead_letters"):
        hint = f", its lanes have: {', '.join(lanes)}; write {worker.name}.LANE" if lanes else ""
        raise NoLettersError(f"{worker.name}{lane and '.'}{lane} has no dead letters{hint}")
    letters: DeadLetters = owner.dead_letters()
    return letters


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, checked. Ends the process with 2 when they are wrong."""
    parser = parser_of_all()
    args = parser.parse_args(argv)
    known = owners()
    name, _, args.lane = args.consumer.partition(".")
    if name not in known:
        parser.error(f"no consumer named {name}; there are: {', '.join(known)}")
    args.module = known[name]
    args.wanted = Wanted(frozenset([*args.ids, *args.named]), args.reason, args.type, args.since, args.until)
    if args.wanted.everything and not args.all:
        parser.error(f"{args.command}: which letters? Give ids or a filter, or --all")
    return args


def parser_of_all() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m app.workers.dead_letters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("consumer", help="a consumer or task, or CONSUMER.LANE of a PriorityConsumer")
    parser.set_defaults(ids=[], named=[], reason="", type="", since=None, until=None, limit=None, all=True)
    form, filters = format_option(), filter_options()  # its defaults are shared by all that have it
    adding = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run_: Command, text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        added = adding.add_parser(name, parents=[*parents], help=text, description=text)
        added.set_defaults(run=run_)
        return added

    listing = command(
        "list", commands.list_, "one line for each letter, oldest first", form, filter_options()
    )
    listing.add_argument("--newest", action="store_true", help="the newest, newest first")
    listing.set_defaults(limit=commands.SHOWN)
    command("groups", commands.groups, "count them by reason and type", form, filters)
    showing = command("show", commands.show, "all about one letter, the body included", form)
    showing.add_argument("ids", nargs=1, metavar="ID")
    replaying = command("replay", commands.replay, "send letters back to their consumer", form, filters)
    replaying.add_argument("--rate", type=rate, default=50, metavar="N", help="at most N a second (50)")
    replaying.add_argument("--dry-run", action="store_true", help="only say which letters")
    dropping = command("drop", commands.drop, "remove letters for good", form, filters)
    dropping.add_argument("--yes", action="store_true", help="do it; else it only says which letters")
    for settling in (replaying, dropping):
        settling.add_argument("ids", nargs="*", metavar="ID", help="as list shows it, or of the message")
        settling.add_argument("--all", action="store_true", help="all letters")
    exporting = command("export", commands.export, "write letters as JSON lines", filters)
    exporting.add_argument("file", help="a new file, or - for stdout")
    importing = command("import", commands.import_, "add the letters of JSON lines", form)
    importing.add_argument("file", help="a file that export wrote, or - for stdin")
    return parser


def format_option() -> argparse.ArgumentParser:
    """How data is printed."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: a line as of export"
    )
    return options


def filter_options() -> argparse.ArgumentParser:
    """Which letters are meant."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--id", dest="named", action="append", default=[], metavar="ID", help="may be repeated"
    )
    options.add_argument("--reason", default="", metavar="TEXT", help="a part of the reason")
    options.add_argument("--type", default="", help="of the message, or a pattern: 'shop.order.*'")
    times = "a time in ISO 8601, UTC unless it says otherwise, or an age: 90s, 30m, 2h, 7d"
    options.add_argument("--since", type=moment, metavar="TIME", help=f"set aside then or later; {times}")
    options.add_argument("--until", type=moment, metavar="TIME", help="set aside before")
    options.add_argument("--limit", type=positive, metavar="N", help="at most N letters")
    return options


def moment(text: str) -> datetime:
    """A time, given as such or as an age. Raises ValueError."""
    age = AGO.fullmatch(text)
    if age is not None:
        return datetime.now(UTC) - timedelta(**{UNITS[age[2]]: int(age[1])})
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def rate(text: str) -> float:
    """Letters a second. Slower ones would be held for longer than RabbitMQ allows."""
    value = float(text)
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError("a number from 1 to 1000000 is needed")
    return value


def positive(text: str) -> int:
    """A number of letters."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("1 or more is needed")
    return value


if __name__ == "__main__":
    sys.exit(main())

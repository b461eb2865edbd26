#!/usr/bin/env python3
"""Adds background workers, with their tests, to a FastAPI project.

  add_worker.py redis-consumer order_paid --calls app.services.orders:OrderService.mark_paid --project PATH
  add_worker.py rabbitmq-consumer order_paid --calls ... --project PATH --type shop.order.paid.v1 --dry-run
  add_worker.py outbox-relay --project PATH --broker rabbitmq --with publisher
  add_worker.py list --format json
  add_worker.py diff --project PATH

The files that several workers share are written once; a second run changes nothing. What is there with
other content is never overwritten without --force. Either all files are written or none is.

Exit codes: 0 done, or nothing to do; 1 `diff` found differences; 2 wrong command line; 3 the project's
package was not found or lacks what a worker builds on; 4 the service method does not exist or no worker can
call it; 5 a file or name is taken; 6 the migrations have no single head; 7 not writable, nothing was
written; 8 a template is missing. Errors are one line on stderr, data go to stdout, remarks to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  # the next imports would only say "invalid syntax"
    sys.stderr.write("add_worker.py: needs Python 3.11 or newer\n")
    sys.exit(2)

from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -P and -I leave it out

from workerkit import report
from workerkit.add import Options, plan_addition
from workerkit.brokers import EXTRAS
from workerkit.compare import compare
from workerkit.errors import EXIT_DIFFERENT, EXIT_OK, AddWorkerError
from workerkit.kinds import KINDS, Kind
from workerkit.presence import chosen
from workerkit.project import open_project
from workerkit.write import write_all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    try:
        return int(args.command(args))
    except AddWorkerError as error:
        sys.stderr.write(f"add_worker.py: {error}\n")
        return error.exit_code
    except BrokenPipeError:  # `| head` has seen enough; the files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def add(args: argparse.Namespace) -> int:
    """Add a worker."""
    kind: Kind = args.kind
    project = open_project(args.project, args.package)
    name = args.name if kind.named else kind.worker.rpartition(".")[2]
    options = Options(
        kind=kind,
        broker=chosen(project, kind, getattr(args, "broker", None)),
        name=name,
        calls=getattr(args, "calls", ""),
        type=getattr(args, "type", ""),
        head=args.head,
        extras=tuple(args.extras),
        force=args.force,
    )
    addition = plan_addition(project, options)
    if not args.dry_run:
        write_all(project.root, {c.target.path: c.target.text for c in addition.changes if c.writes})
    print(report.added(addition, dry_run=args.dry_run, format_=args.format))
    for remark in addition.remarks:
        sys.stderr.write(f"note: {remark}\n")
    return EXIT_OK


def show_kinds(args: argparse.Namespace) -> int:
    """List the kinds of workers."""
    print(report.kinds(args.format))
    return EXIT_OK


def show_differences(args: argparse.Namespace) -> int:
    """Show how the project's copies differ from the templates."""
    comparison = compare(open_project(args.project, args.package))
    if not comparison.changes:
        sys.stderr.write("note: no workers of these templates in this project\n")
    print(comparison.report(args.format))
    return EXIT_DIFFERENT if comparison.different else EXIT_OK


def parser() -> argparse.ArgumentParser:
    """The command line."""
    usage, _, epilog = (__doc__ or "").partition("\n\n")
    whole = argparse.ArgumentParser(
        description=usage, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for kind in KINDS.values():
        command = commands.add_parser(kind.name, help=kind.summary, description=f"It {kind.summary}.")
        command.set_defaults(command=add, kind=kind)
        if kind.named:
            command.add_argument("name", metavar="NAME", help="the worker's name, such as order_paid")
            command.add_argument(
                "--calls", required=True, metavar="CALLS", help="app.services.orders:OrderService.mark_paid"
            )
            command.add_argument("--type", default="", help="type of the messages; default: PROJECT.NAME.v1")
        if len(kind.brokers) > 1:
            command.add_argument(
                "--broker",
                choices=[broker.name for broker in kind.brokers],
                help="what carries the messages; default: what the workers use that are there, or redis",
            )
        add_options(command)
        command.add_argument("--head", help="the migration to build on, where there are several heads")
        command.add_argument(
            "--with",
            dest="extras",
            action="append",
            default=[],
            choices=EXTRAS,
            help="also copy: publisher (send without a transaction), batch (one transaction for several "
            "messages), in-order (one message after the other); RabbitMQ: priority (a queue for "
            "what is urgent), rpc (request and reply)",
        )
        command.add_argument("--force", action="store_true", help="replace files that differ")
        command.add_argument("--dry-run", action="store_true", help="only show what would be written")
    listing = commands.add_parser("list", help="the kinds of workers")
    listing.set_defaults(command=show_kinds)
    listing.add_argument("--format", choices=("text", "json"), default="text")
    differences = commands.add_parser("diff", help="how the project's copies differ from the templates")
    differences.set_defaults(command=show_differences)
    add_options(differences)
    return whole


def add_options(command: argparse.ArgumentParser) -> None:
    """Options of every command that looks at a project."""
    command.add_argument("--project", type=Path, default=Path(), metavar="PATH", help="default: this folder")
    command.add_argument("--package", help="the package with core/config.py, where there are several")
    command.add_argument("--format", choices=("text", "json"), default="text")


if __name__ == "__main__":
    sys.exit(main())

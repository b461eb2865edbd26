#!/usr/bin/env python3
"""Adds background workers, with their tests, to a FastAPI project.

  add_worker.py redis-consumer order_paid --calls app.services.orders:OrderService.mark_paid --project PATH
  add_worker.py rabbitmq-consumer order_paid --calls ... --project PATH --type shop.order.paid.v1 --dry-run
  add_worker.py outbox-relay --project PATH --broker rabbitmq --with publisher
  add_worker.py cron-job sales_report --calls app.services.reports:ReportService.daily_sales --project PATH
      --schedule "30 2 * * *" --timezone Europe/Berlin --set day=yesterday
  add_worker.py celery-task invoice_email --calls app.services.emails:EmailService.send --project PATH
  add_worker.py celery-task process_payment --calls app.services.payments:PaymentService.capture
      --project PATH --tracked --deadline 1h --with jobs-api
  add_worker.py llm-job summarise_document --calls app.services.documents:DocumentService.store_summary
      --prompt summary_prompt --project PATH --with jobs-api --with events-api
  add_worker.py llm-job summarise_overnight --calls ... --prompt summary_prompt --project PATH --batch
  add_worker.py webhook-sender --project PATH
  add_worker.py webhook-receiver --project PATH
  add_worker.py inspect --project PATH
  add_worker.py list --format json
  add_worker.py diff --project PATH
  add_worker.py upgrade --project PATH --dry-run

The files that several workers share are written once; a second run changes nothing. What is there with
other content is never overwritten without --force. Either all files are written or none is. Files that are
there get lines added where that is certain (requirements, Procfile, what creates the tables, README.md);
--dry-run shows them as a diff, --no-edit only says them.

`upgrade` brings the copies up to these templates. What the project changed stays, what the templates changed
comes in; where both changed the same lines, both stand between <<<<<<< yours and >>>>>>> template. What
landed is on record in workers.lock, which belongs into the repository. Workers, their own tests and
migrations are the project's and stay as they are.

Exit codes: 0 done, or nothing to do; 1 `diff` found differences, `upgrade` left conflicts; 2 wrong command
line; 3 the project's package was not found or lacks what a worker builds on; 4 the service method does not
exist or no worker can call it; 5 a file or name is taken, or a link leads out of the project; 6 the
migrations have no single head; 7 not writable, nothing was written; 8 a template is missing; 9 `upgrade`
would change files that are not committed. Errors are one line on stderr, data go to stdout, remarks to
stderr.
"""

from __future__ import annotations

import argparse
import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  # the next imports would only say "invalid syntax"
    sys.stderr.write("add_worker.py: needs Python 3.11 or newer\n")
    sys.exit(2)

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -P and -I leave it out

from workerkit import report
from workerkit.add import Options, plan_addition
from workerkit.brokers import CELERY_REDIS, EXTRAS, LLM, NO_BROKER
from workerkit.compare import compare
from workerkit.cron_job import CronJobOptions
from workerkit.errors import EXIT_DIFFERENT, EXIT_OK, AddWorkerError, UsageError
from workerkit.fit import Choices, Fit
from workerkit.home import open_fit
from workerkit.inspection import inspected
from workerkit.kinds import BATCHED_JOB, KINDS, TRACKED_TASK, Kind
from workerkit.presence import chosen
from workerkit.tracked_task import TaskOptions
from workerkit.upgrade import plan_upgrade
from workerkit.upgrade_advice import remarks
from workerkit.upgrade_report import upgraded
from workerkit.write import write_all

WITH_BROKER = (
    "also copy: publisher (send without a transaction), batch (one transaction for several messages), "
    "in-order (one message after the other); RabbitMQ: priority (a queue for what is urgent), rpc (request "
    "and reply)"
)
WITH_CRON_JOB = (
    "also copy: cron-api (a router to look at jobs and run them), lifespan (run jobs in the API's process)"
)

WITH_TASK = (
    "with --tracked, also copy: jobs-api (a router to follow and cancel jobs, and 202 for routes), job-flow "
    "(jobs that wait for others)"
)

WITH_LLM_JOB = (
    "also copy: jobs-api (a router to follow and cancel jobs, and 202 for routes), events-api (routers for "
    "the stream of events and for what was used), job-flow (jobs that wait for others), anthropic, "
    "openai (adapters for these packages, in place of plain HTTP)"
)


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
    task = (
        task_options(args)
        if args.kind.is_task
        else TaskOptions(limits=limits_of(args))
        if args.kind.is_llm_job
        else TaskOptions()
    )
    batched = getattr(args, "batch", False)
    kind: Kind = TRACKED_TASK if task.tracked else BATCHED_JOB if batched else args.kind
    fit = fit_of(args)
    project = fit.project
    name = args.name if kind.named else kind.worker.rpartition(".")[2]
    options = Options(
        kind=kind,
        broker=chosen(project, kind, getattr(args, "broker", None)),
        name=name,
        calls=getattr(args, "calls", ""),
        prompt=getattr(args, "prompt", ""),
        type=getattr(args, "type", ""),
        cron=cron_job_options(args) if kind.is_cron_job else CronJobOptions(),
        task=task,
        head=args.head,
        extras=tuple(args.extras),
        force=args.force,
        edit=args.edit,
        readme=args.readme,
    )
    addition = plan_addition(fit, options)
    if not args.dry_run:
        write_all(project.root, {c.target.path: c.target.text for c in addition.changes if c.writes})
    print(report.added(addition, dry_run=args.dry_run, format_=args.format))
    for remark in addition.remarks:
        sys.stderr.write(f"note: {remark}\n")
    return EXIT_OK


def fit_of(args: argparse.Namespace) -> Fit:
    """The project that the command line names, and what fits workers into it."""
    return open_fit(args.project, args.package, args.home, Choices(args.settings, args.session, args.base))


def show_findings(args: argparse.Namespace) -> int:
    """Show what was found in a project."""
    print(inspected(fit_of(args), args.format))
    return EXIT_OK


def show_kinds(args: argparse.Namespace) -> int:
    """List the kinds of workers."""
    print(report.kinds(args.format))
    return EXIT_OK


def show_differences(args: argparse.Namespace) -> int:
    """Show how the project's copies differ from the templates."""
    comparison = compare(fit_of(args).project)
    if not comparison.changes:
        sys.stderr.write("note: no workers of these templates in this project\n")
    print(comparison.report(args.format))
    return EXIT_DIFFERENT if comparison.different else EXIT_OK


def upgrade(args: argparse.Namespace) -> int:
    """Bring the project's copies up to the templates."""
    project = fit_of(args).project
    plan = plan_upgrade(project, datetime.now(UTC), args.head)
    if not plan.steps:
        sys.stderr.write("note: no workers of these templates in this project\n")
    told = upgraded(plan, dry_run=args.dry_run, format_=args.format)
    if not args.dry_run:
        if not args.force:
            plan.check_committed()
        write_all(project.root, {c.target.path: c.target.text for c in plan.changes if c.writes})
    print(told)
    for remark in remarks(plan):
        sys.stderr.write(f"note: {remark}\n")
    return EXIT_DIFFERENT if plan.conflicts else EXIT_OK


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
        if kind.is_cron_job:
            add_cron_job_options(command)
        elif kind.named:
            command.add_argument("--type", default="", help="type of the messages; default: PROJECT.NAME.v1")
        if kind.is_task:
            add_task_options(command)
        if kind.is_llm_job:
            add_llm_job_options(command)
        if len(kind.brokers) > 1:
            command.add_argument(
                "--broker",
                choices=[broker.name for broker in kind.brokers],
                help="what carries the messages; default: what the workers use that are there, or redis",
            )
        extras = (
            (tuple(NO_BROKER.extras), WITH_CRON_JOB)
            if kind.is_cron_job
            else (tuple(CELERY_REDIS.extras), WITH_TASK)
            if kind.is_task
            else (tuple(LLM.extras), WITH_LLM_JOB)
            if kind.is_llm_job
            else (EXTRAS, WITH_BROKER)
        )
        add_options(command)
        command.add_argument("--head", help="the migration to build on, where there are several heads")
        command.set_defaults(extras=[])
        if any(broker.extras for broker in kind.brokers):
            command.add_argument("--with", dest="extras", action="append", choices=extras[0], help=extras[1])
        command.add_argument("--force", action="store_true", help="replace files that differ")
        command.add_argument(
            "--no-edit", dest="edit", action="store_false", help="leave files that exist alone; only say what"
        )
        command.add_argument(
            "--no-readme",
            dest="readme",
            action="store_false",
            help="leave README.md alone; it gets a section",
        )
        command.add_argument("--dry-run", action="store_true", help="only show what would be written")
    inspecting = commands.add_parser(
        "inspect", help="what a project is made of, and how workers would fit in"
    )
    inspecting.set_defaults(command=show_findings)
    add_options(inspecting)
    listing = commands.add_parser("list", help="the kinds of workers")
    listing.set_defaults(command=show_kinds)
    listing.add_argument("--format", choices=("text", "json"), default="text")
    differences = commands.add_parser("diff", help="how the project's copies differ from the templates")
    differences.set_defaults(command=show_differences)
    add_options(differences)
    upgrading = commands.add_parser("upgrade", help="bring the project's copies up to the templates")
    upgrading.set_defaults(command=upgrade)
    add_options(upgrading)
    upgrading.add_argument("--head", help="the migration to build on, where a new table needs one")
    upgrading.add_argument("--force", action="store_true", help="even when files are not committed")
    upgrading.add_argument("--dry-run", action="store_true", help="only show what would be written")
    return whole


def add_cron_job_options(command: argparse.ArgumentParser) -> None:
    """When a cron job is due, what it passes on, and its policies."""
    command.add_argument("--schedule", default="", help='five cron fields, or six with seconds: "30 2 * * *"')
    command.add_argument("--timezone", default="", help="with --schedule: Europe/Berlin, or UTC")
    command.add_argument("--every", default="", help="instead of --schedule: 30s, 5m, 24h, 7d")
    command.add_argument(
        "--set",
        dest="values",
        action="append",
        default=[],
        type=setting,
        metavar="NAME=VALUE",
        help="a parameter of the service: today or yesterday for a date (of the due time), 24h for a "
        "timedelta, or a number, bool or text; a datetime is the due time",
    )
    command.add_argument("--overlap", choices=("skip", "wait"), help="a tick due during a run; default: skip")
    command.add_argument("--catch-up", choices=("none", "last", "all"), help="missed ticks; default: last")
    for name, text in (("within", "how old a missed tick is made up; 1d"), ("deadline", "for a tick; 1h")):
        command.add_argument(f"--{name}", metavar="TIME", help=text)


def add_task_options(command: argparse.ArgumentParser) -> None:
    """Whether a task has a status, and the limits of such a job."""
    command.add_argument("--tracked", action="store_true", help="a job: status, result, cancel; no outbox")
    limits = {
        "deadline": "all attempts of a job; default: 24h",
        "timeout": "one of them; default: WORKER_HANDLER_TIMEOUT_SECONDS, which is 60 s",
    }
    for name, text in limits.items():
        command.add_argument(f"--{name}", metavar="TIME", help=f"with --tracked, for {text}")


def task_options(args: argparse.Namespace) -> TaskOptions:
    """What the command line says about a task. Raises UsageError."""
    limits = limits_of(args)
    if limits and not args.tracked:
        raise UsageError(f"--{next(iter(limits))}: only with --tracked; settings limit plain tasks")
    return TaskOptions(args.tracked, limits)


def add_llm_job_options(command: argparse.ArgumentParser) -> None:
    """What the model is asked, and the limits of such a job."""
    command.add_argument(
        "--prompt",
        required=True,
        metavar="METHOD",
        help="the method beside that of --calls that returns what is asked, as text; the method of --calls "
        "takes the same parameters, and one more: the answer",
    )
    command.add_argument(
        "--batch", action="store_true", help="asked in batches of the provider: for less, within a day or two"
    )
    for name, text in (
        ("deadline", "all attempts of a job; 6h, with --batch 3d"),
        ("timeout", "one of them; 10m"),
    ):
        command.add_argument(f"--{name}", metavar="TIME", help=f"for {text}")


def limits_of(args: argparse.Namespace) -> dict[str, str]:
    """How long a job may take."""
    given = {name: getattr(args, name) for name in ("deadline", "timeout")}
    return {name: value for name, value in given.items() if value is not None}


def setting(text: str) -> tuple[str, str]:
    """A parameter's name and value."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text}: write NAME=VALUE")
    return name, value


def cron_job_options(args: argparse.Namespace) -> CronJobOptions:
    """What the command line says about a cron job."""
    given = {name: getattr(args, name) for name in ("overlap", "catch_up", "within", "deadline")}
    policies = {name: value for name, value in given.items() if value is not None}
    return CronJobOptions(args.schedule, args.timezone, args.every, dict(args.values), policies)


def add_options(command: argparse.ArgumentParser) -> None:
    """Options of every command that looks at a project."""
    command.add_argument("--project", type=Path, default=Path(), metavar="PATH", help="default: this folder")
    command.add_argument("--package", help="the project's package, where several could be meant: src/acme")
    command.add_argument(
        "--home",
        help="where workers land; default: the package, or PACKAGE.background if it is built otherwise",
    )
    for name, text in (
        ("settings", "the settings: acme.config:get_settings"),
        ("session", "the async_sessionmaker or session helper: acme.db:SessionLocal"),
        ("base", "the base whose metadata has the tables: acme.db:Base"),
    ):
        command.add_argument(f"--{name}", default="", metavar="MODULE:NAME", help=text)
    command.add_argument("--format", choices=("text", "json"), default="text")


if __name__ == "__main__":
    sys.exit(main())

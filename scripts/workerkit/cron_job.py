"""A cron job's module, derived from the template: its own schedule, policies and service call."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from workerkit.consumer import SERVICES, Example, assemble, call, call_span, import_span, needed_imports
from workerkit.errors import ServiceError, TemplateError
from workerkit.imports import block
from workerkit.schedule import duration, schedule_source
from workerkit.service import Service
from workerkit.signature import Field
from workerkit.source import Import, Module
from workerkit.templates import PACKAGE

CRON_JOB = Example(f"{PACKAGE}.jobs.sales_report", f"{PACKAGE}.services.reports:ReportService.daily_sales")
# Imports that a job has only when it uses them.
OPTIONAL = (
    Import("datetime", "timedelta"),
    Import(f"{PACKAGE}.core.cron", "Cron"),
    Import(f"{PACKAGE}.core.interval", "Every"),
)
# What a tick says about the time, by the type of the parameter.
TIMES = {
    "date": {"today": "tick.due_at.date()", "yesterday": "tick.due_at.date() - timedelta(days=1)"},
    "datetime": {"due": "tick.due_at"},
}
LITERALS = {"int": r"-?\d+", "float": r"-?\d+(\.\d+)?", "bool": "True|False"}


@dataclass(frozen=True)
class CronJobOptions:
    """When a job is due, the values that it passes on, and its policies, all as on the command line."""

    schedule: str = ""
    timezone: str = ""
    every: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The schedule as Python. Raises UsageError."""
        return schedule_source(self.schedule, self.timezone, self.every)

    @property
    def shown(self) -> str:
        """The schedule as people read it."""
        return f"{self.schedule} {self.timezone}" if self.schedule else f"every {self.every}"


def cron_job(module: Module, name: str, options: CronJobOptions, service: Service, package: str) -> str:
    """The text of the job `name`, made from the template `module`. Raises UsageError or ServiceError."""
    definition = job_lines(name, options)
    called = call(service, {f.name: value_of(f, service, options) for f in service.fields}, "tick")
    code = "\n".join([*definition, *called])
    unused = {import_ for import_ in OPTIONAL if f"{import_.name}(" not in code}
    own = {import_ for import_ in module.imports if not import_.module.startswith(SERVICES)}
    imports = needed_imports((own | {*OPTIONAL}) - unused, service, package, {"run", "job"})
    pieces = {
        (1, 1): [f'"""Cron job: calls `{service.qualified}`."""'],
        import_span(module): block(imports, package, service.local).splitlines(),
        call_span(module): called,
        job_span(module): definition,
    }
    return assemble(module.text.splitlines(), pieces, {})


def value_of(field_: Field, service: Service, options: CronJobOptions) -> str:
    """What is passed for a parameter, as Python. Raises UsageError or ServiceError."""
    type_ = field_.annotation.removesuffix(" | None").rpartition(".")[2]
    given = options.values.get(field_.name)
    times = TIMES.get(type_, {})
    option = f"--set {field_.name}"
    if given is None and len(times) == 1:
        return next(iter(times.values()))
    if given is None:
        value = " or ".join(times) or "VALUE"
        raise ServiceError(
            f"{service.calls}: {field_.name}: {field_.annotation} is needed: give it with {option}={value}"
        )
    if given in times:
        return times[given]
    if type_ == "timedelta":
        return duration(option, given)
    if type_ == "str":
        return json.dumps(given, ensure_ascii=False)
    if re.fullmatch(LITERALS.get(type_, "(?!)"), given):
        return given
    allowed = " or ".join(times) or {"bool": "True or False"}.get(type_, "int, float, bool, str or timedelta")
    raise ServiceError(f"{option}={given}: {field_.annotation} is asked for; {allowed} can be given")


def job_lines(name: str, options: CronJobOptions) -> list[str]:
    """The definition of the job."""
    arguments = [f'name="{name}"', f"schedule={options.source}", "run=run", *policy_lines(options.policies)]
    return ["job = CronJob(", *(f"    {argument}," for argument in arguments), ")"]


def policy_lines(policies: Mapping[str, str]) -> Iterator[str]:
    """The policies that are not left at their defaults. Raises UsageError."""
    for name, given in policies.items():
        is_word = name in ("overlap", "catch_up")
        yield f"{name}={json.dumps(given) if is_word else duration(f'--{name}', given)}"


def job_span(module: Module) -> tuple[int, int]:
    """The lines of the definition. Raises TemplateError."""
    node = module.top_level.get("job")
    if not isinstance(node, ast.Assign):
        raise TemplateError(f"{module.path}: no job")
    return node.lineno, node.end_lineno or node.lineno

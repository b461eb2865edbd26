"""A tracked task's module, derived from the template: its names, payload fields, limits and service call."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from workerkit.consumer import (
    SERVICES,
    Example,
    assemble,
    call_lines,
    field_lines,
    field_span,
    import_span,
    needed_imports,
    payload_name,
)
from workerkit.errors import TemplateError
from workerkit.imports import WIDTH, block
from workerkit.schedule import duration
from workerkit.service import Service
from workerkit.source import Import, Module
from workerkit.templates import PACKAGE

TRACKED = Example(
    f"{PACKAGE}.tasks.process_payment",
    f"{PACKAGE}.services.payments:PaymentService.capture",
    "shop.payment.process",
    "ProcessPayment",
)
TIMEDELTA = Import("datetime", "timedelta")


@dataclass(frozen=True)
class TaskOptions:
    """Whether a task has a row that is its record, and the limits of such a job, as on the command line."""

    tracked: bool = False
    limits: Mapping[str, str] = field(default_factory=dict)


def tracked_task(
    module: Module, name: str, type_: str, options: TaskOptions, service: Service, *, package: str
) -> str:
    """The text of the task `name`, made from the template `module`. Raises UsageError or ServiceError."""
    limits = [f"{key}={duration(f'--{key}', given)}" for key, given in options.limits.items()]
    unused = set() if limits else {TIMEDELTA}
    own = {import_ for import_ in module.imports if not import_.module.startswith(SERVICES)}
    imports = needed_imports((own | {TIMEDELTA}) - unused, service, package, {name}, service.imports)
    payload = payload_name(name, {import_.bound for import_ in imports})
    handler = [*decorator_lines(type_, payload, limits), *signature_lines(name, payload, "None")]
    pieces = {
        docstring_span(module): docstring_lines(name, type_, service),
        import_span(module): block(imports, package, service.local).splitlines(),
        field_span(module, TRACKED): field_lines(service),
        head_span(module, TRACKED): handler,
        body_span(module, TRACKED): call_lines(service, "context"),
    }
    return assemble(
        module.text.splitlines(), pieces, {f"{TRACKED.topic}.v1": type_, TRACKED.payload: payload}
    )


def docstring_lines(name: str, type_: str, service: Service) -> list[str]:
    """What the module says of itself."""
    return [
        f'"""Job `{type_}`: calls `{service.qualified}`.',
        "",
        f"job = await submit(session, {name}, data, owner=str(user.id))",
        '"""',
    ]


def decorator_lines(type_: str, payload: str, limits: list[str]) -> Iterator[str]:
    """The decorator, as a formatter would leave it."""
    arguments = [f'"{type_}"', payload, *limits]
    line = f"@job({', '.join(arguments)})"
    yield from (
        [line] if len(line) <= WIDTH else ["@job(", *(f"    {argument}," for argument in arguments), ")"]
    )


def signature_lines(name: str, payload: str, result: str) -> Iterator[str]:
    """The first lines of the handler."""
    parameters = f"context: JobContext[{payload}], session: AsyncSession"
    line = f"async def {name}({parameters}) -> {result}:"
    yield from (
        [line] if len(line) <= WIDTH else [f"async def {name}(", f"    {parameters}", f") -> {result}:"]
    )


def handler_of(module: Module, example: Example) -> ast.AsyncFunctionDef:
    """The template's handler. Raises TemplateError."""
    node = module.top_level.get(example.name)
    if not isinstance(node, ast.AsyncFunctionDef):
        raise TemplateError(f"{module.path}: no handler {example.name}")
    return node


def docstring_span(module: Module) -> tuple[int, int]:
    """The module's docstring."""
    return 1, module.tree.body[0].end_lineno or 1


def head_span(module: Module, example: Example) -> tuple[int, int]:
    """From the handler's decorator to the line before its docstring."""
    node = handler_of(module, example)
    return node.decorator_list[0].lineno, node.body[0].lineno - 1


def body_span(module: Module, example: Example) -> tuple[int, int]:
    """What follows the handler's docstring."""
    node = handler_of(module, example)
    return node.body[1].lineno, node.end_lineno or node.lineno

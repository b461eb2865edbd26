"""A consumer's or plain task's module, derived from the template: its names, payload fields, service call."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from workerkit.errors import ServiceError, TemplateError
from workerkit.imports import block
from workerkit.service import IDEMPOTENCY_KEY, Service
from workerkit.source import Import, Module
from workerkit.templates import PACKAGE, renamed, replaced

SERVICES = f"{PACKAGE}.services."
SERVICE_SESSION = f"{PACKAGE}.core.service_session"
IMPORTS = ast.Import | ast.ImportFrom


@dataclass(frozen=True)
class Example:
    """The module of a worker that is the template for others of its kind: what it calls, and the words in it
    that theirs do not share. `topic` and `payload` are those of its messages, if it has any.
    """

    template: str
    calls: str
    topic: str = ""
    payload: str = ""

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.template.rpartition(".")[2]

    @property
    def call(self) -> str:
        """`Class.method`."""
        return self.calls.partition(":")[2]


CONSUMER = Example(
    f"{PACKAGE}.consumers.order_paid",
    f"{PACKAGE}.services.orders:OrderService.mark_paid",
    "shop.order.paid",
    "OrderPaid",
)
TASK = Example(
    f"{PACKAGE}.tasks.invoice_email",
    f"{PACKAGE}.services.emails:EmailService.send",
    "mail.invoice",
    "InvoiceEmail",
)


EXAMPLES = {example.template: example for example in (CONSUMER, TASK)}


def consumer(module: Module, name: str, type_: str, service: Service, package: str) -> str:
    """The text of the module `name`, made from the template `module`: it calls `service` for messages of
    `type_`.
    """
    example = EXAMPLES[module.name]
    own = (import_ for import_ in module.imports if not import_.module.startswith(SERVICES))
    names = {name for name, node in module.top_level.items() if not isinstance(node, IMPORTS)}
    imports = needed_imports(own, service, package, names - {example.payload}, service.imports)
    taken = {import_.bound for import_ in imports} | set(module.top_level) - {example.payload}
    payload = payload_name(name, taken)
    topic, _, version = type_.rpartition(".")
    lines = module.text.splitlines()
    pieces = {
        import_span(module): block(imports, package, service.local).splitlines(),
        field_span(module, example): field_lines(service),
        call_span(module): call_lines(service, "message"),
    }
    words = {
        f"{example.topic}.v1": f"{topic}.{version}",
        example.topic: topic,
        example.call: service.qualified,
        example.payload: payload,
        example.name: name,
        f"{PACKAGE}.workers": f"{package}.workers",
    }
    return assemble(lines, pieces, words)


def payload_name(name: str, taken: set[str]) -> str:
    """The payload's class: the worker's name in capitals, and something more when that name is taken."""
    plain = "".join(part.capitalize() for part in name.split("_"))
    return plain if plain not in taken else f"{plain}Payload"


def needed_imports(
    own: Iterable[Import],
    service: Service,
    package: str,
    names: Collection[str],
    types: Iterable[Import] = (),
) -> list[Import]:
    """The template's `own` imports, `service`, and the `types` of the fields.

    Raises ServiceError when two of them bind one name to different things, or one of `names`, which the
    template defines itself.
    """
    kept = [replace(i, module=renamed(i.module, package)) if i.module.startswith(PACKAGE) else i for i in own]
    wanted = {*kept, Import(service.module, service.target), *types}
    if service.helper:
        wanted.add(Import(renamed(SERVICE_SESSION, package), service.helper))
    bound: dict[str, Import] = {}
    for import_ in sorted(wanted):
        other = bound.setdefault(import_.bound, import_)
        if other != import_ or import_.bound in names:
            clash = f"{import_.module}.{import_.name}"
            raise ServiceError(f"{service.calls}: the name {import_.bound} of {clash} is taken in a worker")
    return sorted(wanted)


def field_lines(service: Service) -> list[str]:
    """The fields of the payload model, after the blank line that follows its docstring."""
    fields = [f"    {f.name}: {f.annotation}{f' = {f.default}' if f.default else ''}" for f in service.fields]
    return ["", *fields] if fields else []


def call_lines(service: Service, work: str) -> list[str]:
    """The call of the service in the handler, whose first parameter is `work`."""
    values = {field.name: f"{work}.data.{field.name}" for field in service.fields}
    return call(service, values, work)


def call(service: Service, values: Mapping[str, str], key_of: str) -> list[str]:
    """A call of the service with the `values` of its fields, and the idempotency key of `key_of`.

    What commits by itself or is synchronous gets a session of its own in the handler's transaction.
    """
    session = {"": "session", "joined": "own", "call_sync": "own"}[service.helper]
    head = f"{service.owner}({session}).{service.function}" if service.owner else service.function
    given = f"{service.session_name}={session}" if service.session_name else session
    arguments = [] if service.owner else [given]
    arguments += [f"{'' if f.positional else f'{f.name}='}{values[f.name]}" for f in service.fields]
    if service.takes_key:
        arguments.append(f"{IDEMPOTENCY_KEY}={key_of}.{IDEMPOTENCY_KEY}")
    lines = [f"{head}(", *(f"    {argument}," for argument in arguments), ")"]
    return [f"    {line}" for line in through(service.helper, lines if arguments else [f"{head}()"])]


def through(helper: str, lines: list[str]) -> list[str]:
    """The lines of a call, made through what `core.service_session` offers."""
    first, *rest = lines
    if helper == "call_sync":
        body = [f"lambda own: {first}", *rest]
        body[-1] += ","
        return ["await call_sync(", "    session,", *(f"    {line}" for line in body), ")"]
    if helper == "joined":
        return ["async with joined(session) as own:", f"    await {first}", *(f"    {line}" for line in rest)]
    return [f"await {first}", *rest]


def import_span(module: Module) -> tuple[int, int]:
    """First and last line of the template's imports."""
    nodes = [node for node in module.tree.body if isinstance(node, IMPORTS)]
    return nodes[0].lineno, max(node.end_lineno or node.lineno for node in nodes)


def field_span(module: Module, example: Example) -> tuple[int, int]:
    """From the line after the payload's docstring to its last field."""
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == example.payload:
            return (node.body[0].end_lineno or 0) + 1, node.end_lineno or 0
    raise TemplateError(f"{module.path}: no class {example.payload}")


def call_span(module: Module) -> tuple[int, int]:
    """The lines of the service call."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await):
            return node.lineno, node.end_lineno or node.lineno
    raise TemplateError(f"{module.path}: no service call")


def assemble(lines: list[str], pieces: dict[tuple[int, int], list[str]], words: dict[str, str]) -> str:
    """The template's lines with the spans replaced by `pieces`, and elsewhere the words by others."""
    result: list[str] = []
    done = 0
    for (first, last), piece in sorted(pieces.items()):
        result += [replaced(line, words) for line in lines[done : first - 1]]
        result += piece
        done = last
    result += [replaced(line, words) for line in lines[done:]]
    return "\n".join(result) + "\n"

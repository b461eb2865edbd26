"""An LLM job's module, derived from the template: its names, payload fields, limits and two service calls."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace

from workerkit.consumer import (
    SERVICE_SESSION,
    SERVICES,
    Example,
    assemble,
    call,
    field_lines,
    field_span,
    import_span,
    needed_imports,
    payload_name,
)
from workerkit.errors import ServiceError, TemplateError
from workerkit.imports import block
from workerkit.project import Project
from workerkit.schedule import duration
from workerkit.service import Service, read_service
from workerkit.signature import Field
from workerkit.source import Import, Module
from workerkit.templates import PACKAGE, renamed
from workerkit.tracked_task import body_span, docstring_span, head_span, signature_lines

LLM_JOB = Example(
    f"{PACKAGE}.llm.summarise_document",
    f"{PACKAGE}.services.documents:DocumentService.store_summary",
    "shop.document.summarise",
    "SummariseDocument",
)
# With --batch.
BATCH_JOB = Example(
    f"{PACKAGE}.llm.summarise_overnight",
    f"{PACKAGE}.services.documents:DocumentService.store_summary",
    "shop.document.summarise.overnight",
    "SummariseOvernight",
)
PROMPT = "summary_prompt"
ASK = "ask"
QUESTION = "question"
LIMITS = {"timeout": "10m", "deadline": "6h"}
# A provider may take a day for a batch, and then not have come to all of it.
BATCH_LIMITS = {"timeout": "10m", "deadline": "3d"}


def read_prompt(project: Project, store: Service, name: str) -> Service:
    """The method beside `store` that says what the model is asked. Raises ServiceError."""
    owner = f"{store.owner}." if store.owner else ""
    # Where it is asked the transaction is its own: it may commit.
    prompt = replace(read_service(project, f"{store.module}:{owner}{name}"), commits=False)
    if prompt.returns not in ("", "str"):
        raise ServiceError(f"--prompt {name}: {prompt.qualified} returns {prompt.returns}; a str is needed")
    return prompt


def llm_job(
    module: Module,
    name: str,
    type_: str,
    limits: Mapping[str, str],
    store: Service,
    *,
    prompt: Service,
    package: str,
) -> str:
    """The text of the job `name`, made from the template `module`. Raises UsageError or ServiceError."""
    example = BATCH_JOB if module.name == BATCH_JOB.template else LLM_JOB
    answer = answer_of(prompt, store)
    own = {import_ for import_ in module.imports if not import_.module.startswith(SERVICES)}
    types = {*prompt.imports, *store.imports, Import(prompt.module, prompt.target)}
    if prompt.helper:
        types.add(Import(renamed(SERVICE_SESSION, package), prompt.helper))
    imports = needed_imports(own, store, package, {name, ASK, QUESTION}, types)
    payload = payload_name(name, {import_.bound for import_ in imports} | {name, ASK})
    fields = {field.name: field for field in (*store.fields, *prompt.fields) if field is not answer}
    # Those without a default come first, as the prompt has them.
    order = sorted(fields.values(), key=lambda field: (bool(field.default), field.name not in asked(prompt)))
    values = {field.name: f"context.data.{field.name}" for field in order}
    pieces = {
        docstring_span(module): docstring_lines(name, type_, prompt, store, batch=example is BATCH_JOB),
        import_span(module): block(imports, package, prompt.local | store.local).splitlines(),
        field_span(module, example): field_lines(replace(store, fields=tuple(order))),
        prompt_span(module): prompt_lines(prompt, values),
        head_span(module, example): [
            *decorator_lines(type_, payload, limits, batch=example is BATCH_JOB),
            *signature_lines(name, payload, "dict[str, str]"),
        ],
        body_span(module, example): [
            *call(store, {**values, answer.name: "context.answer.text"}, "context"),
            '    return {"text": context.answer.text}',
        ],
    }
    return assemble(
        module.text.splitlines(), pieces, {f"{example.topic}.v1": type_, example.payload: payload}
    )


def asked(prompt: Service) -> set[str]:
    """The parameters of the method that says what is asked."""
    return {field.name for field in prompt.fields}


def answer_of(prompt: Service, store: Service) -> Field:
    """The parameter that gets the answer: the one that `prompt` does not take. Raises ServiceError."""
    found = [f for f in store.fields if f.name not in asked(prompt) and not f.default]
    if len(found) != 1 or found[0].annotation != "str":
        names = ", ".join(f"{f.name}: {f.annotation}" for f in found) or "none"
        raise ServiceError(
            f"{store.calls}: the answer goes to the one parameter that {prompt.qualified} does not take, a "
            f"str; there is: {names}"
        )
    same = {f.name: f.annotation for f in prompt.fields}
    for field in store.fields:
        if same.get(field.name, field.annotation) != field.annotation:
            raise ServiceError(f"{store.calls}: {field.name} is of another type than in {prompt.qualified}")
    return found[0]


def docstring_lines(name: str, type_: str, prompt: Service, store: Service, *, batch: bool) -> list[str]:
    """What the module says of itself."""
    return [
        f'"""Job `{type_}`: a language model is asked{", in a batch of its provider" * batch}.',
        "",
        f"`{prompt.qualified}` says what, `{store.qualified}` gets the answer.",
        "",
        f"job = await submit(session, {name}, data, owner=str(user.id))",
        '"""',
    ]


def prompt_lines(prompt: Service, values: Mapping[str, str]) -> list[str]:
    """The call of the method that says what is asked, inside of the block of its session."""
    first, *rest = call(prompt, values, "context")
    return [f"        {QUESTION} = {first.strip()}", *(f"    {line}" for line in rest)]


def decorator_lines(type_: str, payload: str, limits: Mapping[str, str], *, batch: bool) -> list[str]:
    """The decorator. Raises UsageError."""
    usually = BATCH_LIMITS if batch else LIMITS
    given = [f"{key}={duration(f'--{key}', limits.get(key, usual))}" for key, usual in usually.items()]
    via = "batch" if batch else "table"
    arguments = [f'"{type_}"', payload, "ask=ask", f'via="{via}"', 'queue="llm"', *given]
    return ["@job(", *(f"    {argument}," for argument in arguments), ")"]


def prompt_span(module: Module) -> tuple[int, int]:
    """The lines of the call of the method that says what is asked. Raises TemplateError."""
    ask = module.top_level.get(ASK)
    for node in ast.walk(ask) if ask is not None else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Await):
            return node.lineno, node.end_lineno or node.lineno
    raise TemplateError(f"{module.path}: no call of a service in {ASK}")

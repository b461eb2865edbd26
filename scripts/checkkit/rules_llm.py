"""Rules about clients of language models."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from checkkit.look import Look
from checkkit.nodes import calls_in, dotted, keyword, lacks, last_name, number
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.rules_outbox import in_begin
from checkkit.scope import Scope

CLIENTS = {"OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic", "AzureOpenAI", "AsyncAzureOpenAI"}
LONGEST = 21_333  # tokens; 3600 s * tokens / 128,000 are more than the SDK's ten minutes
GONE = {"temperature", "top_p", "top_k"}


def clients(look: Look) -> Iterator[tuple[ast.Call, str]]:
    """Where clients of the two SDKs are made."""
    for name in CLIENTS:
        for call, _ in look.calls(name):
            sdk = look.name(call.func).partition(".")[0]
            if sdk in {"openai", "anthropic"}:
                yield call, sdk


def requests(look: Look) -> Iterator[tuple[ast.Call, Scope]]:
    """Where a model is asked."""
    sdks = {"openai", "anthropic"} & {n.partition(".")[0] for n in look.module.imports.values()}
    for call, scope in look.calls("create", "stream", "parse"):
        name = dotted(call.func)
        if name.rpartition(".")[0].endswith(("messages", "chat.completions", "responses")):
            if sdks or look.receiver(call, scope).startswith(("openai", "anthropic")):
                yield call, scope


@in_module("LLM01")
def retried_twice(look: Look) -> Places:
    """Two layers that retry."""
    for call, _ in clients(look):
        look.note("llm client" if lacks(call, "max_retries") else "llm without retries", call)
    for call, scope in requests(look):
        if retrying(look, scope):
            look.note("llm retried", call)
    return
    yield


def retrying(look: Look, scope: Scope) -> bool:
    """Whether a decorator repeats the function."""
    for decorator in scope.decorators:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = look.name(call.func if call else decorator)
        if name in {"tenacity.retry", "backoff.on_exception", "stamina.retry"}:
            return True
        if call and look.task_decorator(scope) is decorator and keyword(call, "autoretry_for") is not None:
            return True
    return False


@in_project("LLM01")
def retried_twice_in_project(project: Project) -> Places:
    """Where no client leaves it to the caller."""
    quiet = project.notes.get("llm without retries") or "with_options" in project.called
    if project.notes.get("llm client") and not quiet:
        yield from project.notes.get("llm retried", [])


@in_module("LLM02")
def ten_minutes(look: Look) -> Places:
    """Clients that wait for ten minutes."""
    for call, _ in clients(look):
        if (
            lacks(call, "timeout")
            and "with_options" not in look.project.called
            and lacks(call, "http_client")
        ) and "timeout" not in {k.arg for c, _ in requests(look) for k in c.keywords}:
            yield call


@in_module("LLM03")
def other_httpx(look: Look) -> Places:
    """Objects of httpx for a client on httpx2."""
    yield from never_caught(look)
    if not look.project.versions.at_least("anthropic", "1"):
        return
    for call, sdk in clients(look):
        for name in ("http_client", "timeout"):
            value = keyword(call, name)
            made = (
                look.name(value.func) if isinstance(value, ast.Call) else look.type(value, look.scope(call))
            )
            if sdk == "anthropic" and made.startswith("httpx."):
                yield call, f"{name} is {made}"


@in_module("LLM04")
def gone_arguments(look: Look) -> Places:
    """Arguments that the SDK no longer takes."""
    if not look.project.versions.at_least("anthropic", "1"):
        return
    for call, scope in requests(look):
        made = look.receiver(call, scope)
        anthropic = made.startswith("anthropic") or (
            (not made and "anthropic" in look.module.imports.values()) or only_anthropic(look)
        )
        given = GONE & {k.arg for k in call.keywords}
        if dotted(call.func).endswith(("messages.create", "messages.stream")) and anthropic and given:
            yield call, ", ".join(sorted(given))


def only_anthropic(look: Look) -> bool:
    """Whether the module knows this SDK only."""
    sdks = {name.partition(".")[0] for name in look.module.imports.values()} & {"openai", "anthropic"}
    return sdks == {"anthropic"}


@in_module("LLM05")
def held_transaction(look: Look) -> Places:
    """A transaction that is open while a model thinks."""
    for call, scope in requests(look):
        if in_begin(look, call, scope):
            yield call


def never_caught(look: Look) -> Places:
    """Errors of httpx, which a client on httpx2 does not raise."""
    new = look.project.versions.at_least("anthropic", "1") or look.project.versions.at_least("openai", "3")
    called = {call for call, _ in requests(look)} if new else set()
    for node in look.nodes(ast.Try) if called else ():
        assert isinstance(node, ast.Try)
        if called.isdisjoint(calls_in(node.body)):
            continue
        for handler in node.handlers:
            every = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            if any(look.name(one).startswith("httpx.") for one in every):
                yield handler


@in_module("LLM08")
def too_long_at_once(look: Look) -> Places:
    """An answer so long that the SDK wants it streamed."""
    limited = any(keyword(call, "timeout") is not None for call, _ in clients(look))
    for call, scope in requests(look):
        tokens = number(keyword(call, "max_tokens"))
        streams = last_name(call.func) == "stream" or keyword(call, "stream") is not None
        ours = look.receiver(call, scope).startswith("anthropic") or only_anthropic(look)
        if tokens is not None and tokens > LONGEST and ours and not streams and not limited:
            if keyword(call, "timeout") is None:
                yield call


@in_module("LLM09", "AsyncLimiter")
def limit_of_one(look: Look) -> Places:
    """A limit on requests that every process has for itself."""
    for call, _ in look.calls("AsyncLimiter"):
        if look.name(call.func).startswith("aiolimiter.") and {"openai", "anthropic"} & look.project.packages:
            yield call

"""Rules about consuming from RabbitMQ, through aio-pika and pika."""

from __future__ import annotations

import ast
import re

from checkkit.celery_config import literal
from checkkit.look import Look
from checkkit.nodes import calls_in, constant, is_open, keyword, lacks, last_name, names_in, number
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.scope import Scope

COUNTING = {
    "redelivered",
    "headers",
    "delivery_count",
    "attempt",
    "attempts",
    "retries",
    "tries",
    "deliveries",
}


REPLY = "reply-to"
PATIENCE = 1800  # seconds; consumer_timeout
DRAINS = {"cancel", "basic_cancel", "gather", "join", "drain"}


def speaks(look: Look) -> bool:
    """Whether the module uses RabbitMQ."""
    return any(name.startswith(("aio_pika", "pika", "aiormq")) for name in look.module.imports.values())


@in_module("RMQ01", "declare_queue", "queue_declare", "process")
def thrown_away(look: Look) -> Places:
    """`process()` rejects, also when it is cancelled."""
    if not speaks(look):
        return
    for call, _ in look.calls("declare_queue", "queue_declare"):
        arguments = keyword(call, "arguments")
        look.note("queue", call, literal(arguments) if not is_open(call) else ...)
    for call, _ in look.calls("process"):
        if lacks(call, "requeue") and not call.args and in_with(look, call):
            look.note("process", call)
    return
    yield


def in_with(look: Look, call: ast.Call) -> bool:
    """Whether it is entered as a context."""
    return isinstance(look.module.parents.get(call), ast.withitem)


@in_project("RMQ01")
def thrown_away_in_project(project: Project) -> Places:
    """Only where every queue is seen to have no dead letters."""
    queues = project.notes.get("queue", [])
    readable = all(q.value is None or isinstance(q.value, dict) for q in queues)
    if queues and readable and "dead-letter-exchange" not in project.mentioned:
        yield from project.notes.get("process", [])


@in_module("RMQ02", "nack", "reject", "basic_nack", "basic_reject", "process")
def endless_requeue(look: Look) -> Places:
    """Back to the queue at once, without a count."""
    bounded = {"x-delivery-limit", "x-delivery-count", "x-death", "quorum"} & look.project.mentioned
    if not speaks(look) or bounded:
        return
    for call, scope in look.calls("nack", "reject", "basic_nack", "basic_reject"):
        requeue = constant(keyword(call, "requeue"))
        default = last_name(call.func) != "reject" and keyword(call, "requeue") is None and not is_open(call)
        if not (requeue is True or (default and not call.args[1:])) or not in_handler(look, call):
            continue
        body = list(getattr(scope.node, "body", []))
        if not (names_in(body) | attributes(body)) & COUNTING:
            yield call
    for call, scope in look.calls("process"):
        body = list(getattr(scope.node, "body", []))
        once = constant(keyword(call, "reject_on_redelivered")) is True
        if constant(keyword(call, "requeue")) is True and not once and in_with(look, call):
            if not (names_in(body) | attributes(body)) & COUNTING:
                yield call


def in_handler(look: Look, node: ast.AST) -> bool:
    """Whether it stands in an `except`."""
    return any(isinstance(one, ast.ExceptHandler) for one in look.module.above(node))


def attributes(body: list[ast.stmt]) -> set[str]:
    """The attributes that are read in it."""
    return {one.attr for s in body for one in ast.walk(s) if isinstance(one, ast.Attribute)}


@in_module("RMQ03", "set_qos", "basic_qos", "consume", "basic_consume")
def no_prefetch(look: Look) -> Places:
    """All messages at once."""
    if not speaks(look):
        return
    for call, _ in look.calls("set_qos", "basic_qos"):
        position = 1 if last_name(call.func) == "basic_qos" else 0
        count = keyword(call, "prefetch_count") or (call.args[position] if call.args[position:] else None)
        if constant(count) == 0:
            yield call, "0 means without limit"
    if {"set_qos", "basic_qos", "prefetch_count"} & look.project.mentioned:
        return
    for call, _ in look.calls("consume", "basic_consume"):
        if isinstance(call.func, ast.Attribute) and (call.args or call.keywords) and not is_reply(look, call):
            yield call


def is_reply(look: Look, call: ast.Call) -> bool:
    """Whether it takes replies of its own requests: RabbitMQ wants no acknowledgement of these."""
    function = look.module.function(call)
    node = function.node if function else call
    words = names_in(node) | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    owned = any(constant(keyword(c, "exclusive")) is True for c in calls_in(node))
    told = any(re.search(r"reply|response|callback_queue", word.lower()) for word in words)
    return REPLY in look.module.text or owned or told


@in_module("RMQ04")
def unsettled(look: Look) -> Places:
    """A callback whose exception leaves the message unsettled."""
    for call, scope in look.calls("consume"):
        if not speaks(look) or not call.args or constant(keyword(call, "no_ack")) is True:
            continue
        name = last_name(call.args[0])
        handler = next(
            (s for s in look.module.scopes if s.is_async and s.name.rpartition(".")[2] == name), None
        )
        if handler is not None and handler is not scope and acks_bare(handler):
            yield handler.node


def acks_bare(handler: Scope) -> bool:
    """Whether it acknowledges, and nothing settles the message when something before raises."""
    assert isinstance(handler.node, ast.AsyncFunctionDef)
    parameters = [a.arg for a in handler.node.args.args if a.arg != "self"]
    names = {last_name(c.func) for c in handler.calls}
    guarded = any(isinstance(one, ast.Try | ast.With | ast.AsyncWith) for one in ast.walk(handler.node))
    if not parameters or guarded or names & {"process", "nack", "reject"} or handler.decorators:
        return False
    acks = [c for c in handler.calls if last_name(c.func) == "ack"]
    before = [c for c in handler.calls if acks and c.lineno < acks[0].lineno and last_name(c.func) != "ack"]
    return bool(acks and before)


@in_module("RMQ05", "consume", "iterator", "basic_consume", "get", "basic_get")
def no_ack(look: Look) -> Places:
    """Messages that are gone when they arrive."""
    if not speaks(look):
        return
    for call, _ in look.calls("consume", "iterator", "basic_consume", "get", "basic_get"):
        for name in ("no_ack", "auto_ack"):
            value = keyword(call, name)
            if value is not None and constant(value) is True and not is_reply(look, call):
                yield call


@in_module("RMQ08", "connect")
def not_robust(look: Look) -> Places:
    """A consumer that ends when the connection does."""
    for call, scope in look.calls("connect"):
        names = {last_name(c.func) for c in scope.calls}
        if look.name(call.func) == "aio_pika.connect" and names & {"consume", "iterator"}:
            if not endless(look, call):
                yield call


def endless(look: Look, node: ast.AST) -> bool:
    """Whether a loop connects again."""
    return any(isinstance(one, ast.While | ast.For | ast.AsyncFor) for one in look.module.above(node))


@in_module("RMQ15", "consume")
def closed_at_work(look: Look) -> Places:
    """The connection goes while handlers still run."""
    if not speaks(look) or "SIGTERM" not in look.project.mentioned:
        return
    for call, scope in look.calls("consume"):
        names = {last_name(c.func) for c in scope.calls}
        waits = any(look.name(c.func) == "asyncio.wait" for c in scope.calls)
        if not call.args or names & DRAINS or waits or constant(keyword(call, "no_ack")) is True:
            continue
        if any(is_connection(look, p, scope) for p in look.module.above(call)) or closes(look, scope):
            yield call


def is_connection(look: Look, node: ast.AST, scope: Scope) -> bool:
    """Whether it is a `with` that closes a connection of aio-pika."""
    items = node.items if isinstance(node, ast.AsyncWith) else []
    return any(look.type(one.context_expr, scope).startswith("aio_pika.connect") for one in items)


def closes(look: Look, scope: Scope) -> bool:
    """Whether a function closes a connection that it opened."""
    calls = [c for c in scope.calls if last_name(c.func) == "close"]
    return any(look.receiver(c, scope).startswith("aio_pika.connect") for c in calls)


@in_module("RMQ16", "wait_for", "timeout", "fail_after", "move_on_after")
def longer_than_the_broker_waits(look: Look) -> Places:
    """A handler that may take longer than RabbitMQ waits for it."""
    if not speaks(look) or {"consumer_timeout", "consumer-timeout"} & look.project.mentioned:
        return
    for call, scope in look.calls("wait_for", "timeout", "fail_after", "move_on_after"):
        limit = call.args[-1] if call.args else keyword(call, "timeout") or keyword(call, "delay")
        seconds = number(keyword(call, "timeout") or limit)
        names = {last_name(c.func) for c in scope.calls}
        if seconds is not None and seconds >= PATIENCE and names & {"process", "ack", "basic_ack"}:
            yield call, f"{seconds:g} s"


@in_module("RMQ19", "set_qos", "basic_qos")
def global_prefetch(look: Look) -> Places:
    """A prefetch for the whole channel, which RabbitMQ no longer has."""
    for call, _ in look.calls("set_qos", "basic_qos"):
        if speaks(look) and any(constant(keyword(call, n)) is True for n in ("global_", "global_qos")):
            yield call

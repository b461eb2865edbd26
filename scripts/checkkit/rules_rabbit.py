"""Rules about RabbitMQ, through aio-pika and pika."""

from __future__ import annotations

import ast

from checkkit.celery_config import literal
from checkkit.look import Look, is_redis_type
from checkkit.project import Note, Project
from checkkit.rule import Places, in_module, in_project
from checkkit.syntax import (
    Scope,
    calls_in,
    constant,
    dotted,
    is_open,
    keyword,
    lacks,
    last_name,
    names_in,
    text_of,
)

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


def speaks(look: Look) -> bool:
    """Whether the module uses RabbitMQ."""
    return any(name.startswith(("aio_pika", "pika", "aiormq")) for name in look.module.imports.values())


@in_module("RMQ01")
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
    if queues and readable and "x-dead-letter-exchange" not in project.mentioned:
        yield from project.notes.get("process", [])


@in_module("RMQ02")
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


@in_module("RMQ03")
def no_prefetch(look: Look) -> Places:
    """All messages at once."""
    if not speaks(look):
        return
    for call, _ in look.calls("set_qos", "basic_qos"):
        count = keyword(call, "prefetch_count") or (call.args[0] if call.args else None)
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
    told = any("reply" in word.lower() or "callback_queue" in word for word in words)
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


@in_module("RMQ05")
def no_ack(look: Look) -> Places:
    """Messages that are gone when they arrive."""
    if not speaks(look):
        return
    for call, _ in look.calls("consume", "iterator", "basic_consume", "get", "basic_get"):
        for name in ("no_ack", "auto_ack"):
            value = keyword(call, name)
            if value is not None and constant(value) is True and not is_reply(look, call):
                yield call


@in_module("RMQ06")
def transient(look: Look) -> Places:
    """Messages that a restart of the broker deletes."""
    for call, scope in look.calls("Message", "BasicProperties"):
        made = look.name(call.func)
        if made not in {"aio_pika.Message", "aio_pika.message.Message", "pika.BasicProperties"}:
            continue
        answer = {"correlation_id", "expiration"} & {k.arg for k in call.keywords}
        if lacks(call, "delivery_mode") and not answer and not is_reply_scope(scope):
            yield call


def is_reply_scope(scope: Scope) -> bool:
    """Whether a function answers a request: nobody waits for it after a restart."""
    body = list(getattr(scope.node, "body", []))
    return "reply_to" in attributes(body) or "reply_to" in names_in(body)


@in_module("RMQ07")
def unconfirmed(look: Look) -> Places:
    """Published to nowhere, or to nobody knows."""
    if not speaks(look):
        return
    for call, _ in look.calls("channel"):
        if constant(keyword(call, "publisher_confirms")) is False:
            yield call
    for call, scope in look.calls("publish"):
        if isinstance(call.func, ast.Attribute) and constant(keyword(call, "mandatory")) is False:
            if not (is_fanout(scope) or is_reply_scope(scope)) and not is_redis_type(
                look.receiver(call, scope)
            ):
                yield call
    for call, scope in look.calls("channel"):
        names = {last_name(c.func) for c in scope.calls}
        made = look.receiver(call, scope)
        if made.startswith("aio_pika.connect") and "publish" in names and lacks(call, "on_return_raises"):
            if (
                not call.args
                and not names & {"declare_queue", "consume", "iterator"}
                and not is_fanout(scope)
            ):
                yield call


def is_fanout(scope: Scope) -> bool:
    """Whether it sends events, which may have no listener."""
    body = list(getattr(scope.node, "body", []))
    return "FANOUT" in attributes(body) or any(
        text_of(k.value) == "fanout" for c in scope.calls for k in c.keywords
    )


@in_module("RMQ08")
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


@in_module("RMQ09")
def expiration(look: Look) -> Places:
    """A time to live as a string."""
    for call, scope in look.calls("Message"):
        value = keyword(call, "expiration")
        if value is None or not look.name(call.func).startswith("aio_pika."):
            continue
        text = isinstance(value, ast.JoinedStr) or isinstance(constant(value), str)
        made = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "str"
        if isinstance(value, ast.Name):
            bound = scope.binds.get(value.id, [])
            made = any(isinstance(b, ast.Call) and last_name(b.func) == "str" for b in bound)
        if text or made:
            yield value


@in_module("RMQ10")
def not_durable(look: Look) -> Places:
    """A named queue that a restart of the broker deletes."""
    if not speaks(look):
        return
    for call, scope in look.calls("declare_queue", "queue_declare"):
        name = keyword(call, "name") or keyword(call, "queue") or (call.args[0] if call.args else None)
        durable = keyword(call, "durable")
        own = {"exclusive", "auto_delete", "passive"} & {
            k.arg for k in call.keywords if constant(k.value) is not False
        }
        if name is None or (text_of(name) == "" and isinstance(name, ast.Constant)) or own or is_open(call):
            continue
        default = durable is None and len(call.args) < 2
        if (default or constant(durable) is False) and is_channel(look, call, scope):
            yield call


def is_channel(look: Look, call: ast.Call, scope: Scope) -> bool:
    """Whether a method is called on a channel, and not on a framework's broker."""
    if not isinstance(call.func, ast.Attribute):
        return False
    made = look.receiver(call, scope)
    if made.startswith(("aio_pika", "pika")):
        return True
    return not made.startswith("faststream") and "chan" in dotted(call.func.value).lower()


@in_module("RMQ11")
def declared_twice(look: Look) -> Places:
    """The same queue with other arguments."""
    if not speaks(look):
        return
    for call, _ in look.calls("declare_queue", "queue_declare"):
        name = text_of(
            keyword(call, "name") or keyword(call, "queue") or (call.args[0] if call.args else None)
        )
        passive = constant(keyword(call, "passive")) is True
        value = literal(keyword(call, "arguments"))
        if name and not passive and not is_open(call) and len(call.args) < 2 and value is not ...:
            look.note("declared", call, (name, constant(keyword(call, "durable")) is True, repr(value)))
    return
    yield


@in_project("RMQ11")
def declared_twice_in_project(project: Project) -> Places:
    """Compared over all modules."""
    first: dict[str, Note] = {}
    for note in project.notes.get("declared", []):
        assert isinstance(note.value, tuple)
        before = first.setdefault(note.value[0], note)
        assert isinstance(before.value, tuple)
        if before.value != note.value and "Ellipsis" not in note.value[2] + before.value[2]:
            yield note, f"{note.value[0]} is declared otherwise in {before.path}:{before.line}"

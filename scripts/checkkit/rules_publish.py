"""Rules about publishing to RabbitMQ."""

from __future__ import annotations

import ast

from checkkit.look import Look, is_redis_type
from checkkit.nodes import constant, keyword, lacks, last_name, names_in, text_of
from checkkit.rule import Places, in_module
from checkkit.rules_rabbit import attributes, speaks
from checkkit.scope import Scope

MESSAGES = {"aio_pika.Message", "aio_pika.message.Message", "pika.BasicProperties"}


@in_module("RMQ06", "Message", "BasicProperties")
def transient(look: Look) -> Places:
    """Messages that a restart of the broker deletes."""
    for call, scope in look.calls("Message", "BasicProperties"):
        made = look.name(call.func)
        if made not in MESSAGES:
            continue
        answer = {"correlation_id", "expiration"} & {k.arg for k in call.keywords}
        if lacks(call, "delivery_mode") and not answer and not is_reply_scope(scope):
            yield call


def is_reply_scope(scope: Scope) -> bool:
    """Whether a function answers a request: nobody waits for it after a restart."""
    body = list(getattr(scope.node, "body", []))
    return "reply_to" in attributes(body) or "reply_to" in names_in(body)


@in_module("RMQ07", "channel", "publish")
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


@in_module("RMQ09", "Message")
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


@in_module("RMQ20", "Message", "BasicProperties")
def nameless(look: Look) -> Places:
    """A message that nobody can tell from its copy."""
    for call, scope in look.calls("Message", "BasicProperties"):
        made = look.name(call.func)
        answer = {"correlation_id", "expiration", "reply_to"} & {k.arg for k in call.keywords}
        if made in MESSAGES and lacks(call, "message_id") and not answer and not is_reply_scope(scope):
            yield call

"""Rules about clients of Redis: how long they wait, what they try again, whom they hold up."""

from __future__ import annotations

import ast

from checkkit.look import Look
from checkkit.nodes import constant, dotted, is_open, keyword, lacks, last_name, number, text_of
from checkkit.rule import Places, in_module
from checkkit.scope import Scope

READS = ("xread", "xreadgroup")


POPS = ("blpop", "brpop", "bzpopmin", "bzpopmax")


DEFAULT_TIMEOUT = 5.0  # of redis-py 8, seconds


@in_module("RST05", *READS, *POPS)
def block_too_long(look: Look) -> Places:
    """Waits for longer than the socket does."""
    for call, scope in look.calls(*READS, *POPS):
        seconds = waits(call)
        if seconds is None or not isinstance(call.func, ast.Attribute):
            continue
        limit = socket_timeout(look, call.func.value, scope)
        if limit is not None and (seconds == 0 or seconds >= limit):
            yield call, f"it waits {'for ever' if not seconds else f'{seconds:g} s'}, the socket {limit:g} s"


def waits(call: ast.Call) -> float | None:
    """For how long a call blocks, in seconds; 0 is for ever, None when it cannot be told."""
    if last_name(call.func) in READS:
        value = number(keyword(call, "block"))
        return value / 1000 if value is not None else None
    if is_open(call):
        return None
    value_node = keyword(call, "timeout") or (call.args[1] if len(call.args) == 2 else None)
    return 0.0 if value_node is None and len(call.args) == 1 else number(value_node)


def socket_timeout(look: Look, node: ast.expr, scope: Scope) -> float | None:
    """The socket timeout of a client that was made in this module; None when it cannot be told."""
    made = made_by(look, node, scope)
    if made is None or is_open(made):
        return None
    given = keyword(made, "socket_timeout")
    if given is not None:
        return number(given)
    pooled = keyword(made, "connection_pool") is not None or "socket_timeout" in text_of(
        made.args[0] if made.args else None
    )
    return DEFAULT_TIMEOUT if not pooled and look.project.versions.at_least("redis", "8") else None


def made_by(look: Look, node: ast.expr, scope: Scope) -> ast.Call | None:
    """The call that made a Redis client."""
    if not look.is_redis(node, scope):
        return None
    for around in [*scope.chain, *([scope.owner] if scope.owner else [])]:
        for value in around.binds.get(dotted(node), ()):
            inner = value.value if isinstance(value, ast.Await) else value
            if isinstance(inner, ast.Call) and last_name(inner.func) in {"Redis", "from_url", "StrictRedis"}:
                return inner
    return None


@in_module("RST06", "xadd")
def hidden_retry(look: Look) -> Places:
    """A client that sends a command again when the answer is late."""
    if not look.project.versions.at_least("redis", "6"):
        return
    for call, scope in look.calls("xadd"):
        made = made_by(look, call.func.value, scope) if isinstance(call.func, ast.Attribute) else None
        if made is None or last_name(made.func) == "from_url" or is_open(made):
            continue
        if (
            keyword(made, "retry") is None
            and keyword(made, "connection_pool") is None
            and (
                keyword(call, "idmp") is None
                and keyword(call, "idmpauto") is None
                and constant_id(call) is None
            )
        ):
            yield call


def constant_id(call: ast.Call) -> ast.expr | None:
    """The id that is given to the entry; Redis refuses it the second time."""
    return keyword(call, "id") or (call.args[2] if len(call.args) > 2 else None)


@in_module("RST08", "keys")
def scans_all(look: Look) -> Places:
    """`KEYS` stops the server."""
    for call, scope in look.calls("keys"):
        if not isinstance(call.func, ast.Attribute) or len(call.args) != 1:
            continue
        pattern = call.args[0]
        wild = isinstance(pattern, ast.JoinedStr) or "*" in text_of(pattern)
        if wild and look.is_redis(call.func.value, scope):
            yield call


@in_module("RST09", "lock")
def lock_for_ever(look: Look) -> Places:
    """A lock that outlives its holder."""
    for call, scope in look.calls("lock"):
        if isinstance(call.func, ast.Attribute) and look.is_redis(call.func.value, scope):
            if lacks(call, "timeout") and 1 <= len(call.args) < 2:
                yield call


@in_module("RST16", "Redis", "StrictRedis", "from_url")
def other_shapes(look: Look) -> Places:
    """A protocol whose answers have another shape."""
    if not {"xreadgroup", "xread"} & look.project.called:
        return
    for call, _ in look.calls("Redis", "StrictRedis", "from_url"):
        if look.name(call.func).startswith("redis."):
            address = text_of(call.args[0] if call.args else keyword(call, "url"))
            if constant(keyword(call, "protocol")) == 3 or "protocol=3" in address:
                yield call

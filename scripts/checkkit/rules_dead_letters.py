"""Rules about messages that are given up, and about outages that are taken for failures."""

from __future__ import annotations

import ast
import re

from checkkit.look import LOGGING, Look, called_names, catches
from checkkit.nodes import constant, dotted, keyword, last_name, names_in
from checkkit.rule import Places, in_module
from checkkit.rules_consumers import ACKS, PARSING
from checkkit.rules_rabbit import COUNTING, attributes
from checkkit.rules_twice import handles_messages

DEAD = re.compile(r"dead|dlq|dlx|poison|parking", re.IGNORECASE)
BURIES = re.compile(r"dead|dlq|bury|give_up|park", re.IGNORECASE)
TELLS = ("isinstance", "OperationalError", "DBAPIError", "InterfaceError", "ConnectionError", "classify")


@in_module("CON09")
def buried_nowhere(look: Look) -> Places:
    """Dead letters that somebody takes and nobody keeps."""
    if not {*ACKS, "process"} & look.module.by_name.keys():
        return
    for scope in look.module.scopes:
        if not scope.is_function or not DEAD.search(scope.name) or not handles_messages(look, scope):
            continue
        names = {last_name(call.func) for call in scope.calls}
        settles = names & {*ACKS, "process"}
        if settles and not names - set(ACKS) - LOGGING - PARSING - {"process"}:
            yield scope.node


@in_module("CON11")
def outage_counts(look: Look) -> Places:
    """An attempt is counted, whatever failed."""
    for node in look.nodes(ast.Try):
        assert isinstance(node, ast.Try)
        handler = node.handlers[0] if node.handlers else None
        scope = look.module.function(node)
        if handler is None or scope is None or not catches(handler, "Exception", "BaseException"):
            continue
        names = names_in(handler.body) | attributes(handler.body)
        told = called_names(handler.body) | names
        counted = any(one in COUNTING or "attempt" in one.lower() for one in names)
        if counted and handles_messages(look, scope) and gives_up(handler) and not told & set(TELLS):
            yield handler


def gives_up(handler: ast.ExceptHandler) -> bool:
    """Whether a message is dead-lettered in it."""
    for one in (inner for statement in handler.body for inner in ast.walk(statement)):
        if isinstance(one, ast.Call):
            name = dotted(one.func) or last_name(one.func)
            rejected = last_name(one.func) in {"reject", "nack", "basic_reject", "basic_nack"}
            if BURIES.search(name) or (rejected and constant(keyword(one, "requeue")) is False):
                return True
            if last_name(one.func) in {"xadd", "publish", "basic_publish", "lpush", "rpush"}:
                if BURIES.search(ast.unparse(one)):
                    return True
    return False

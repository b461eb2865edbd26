"""Rules about where RabbitMQ brings a message: bindings, dead letters, priorities."""

from __future__ import annotations

import ast

from checkkit.celery_config import literal
from checkkit.look import Look
from checkkit.nodes import constant, is_open, keyword, last_name, names_in, text_of
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.rules_consumers import in_process
from checkkit.rules_rabbit import speaks
from checkkit.scope import Scope

DLX, DLX_KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"
PRIORITY = "x-max-priority"
SPARED = ("dead", "dlq", "dlx", "parking", "retry", "delay")


def argument(call: ast.Call, position: int, *names: str) -> ast.expr | None:
    """An argument by one of its names, or by its place; -1 is none."""
    for name in names:
        if (found := keyword(call, name)) is not None:
            return found
    return call.args[position] if 0 <= position < len(call.args) else None


def named(node: ast.expr | None, scope: Scope, *makers: str) -> str:
    """The name of a queue or exchange: a text, or what it was declared with; empty when it cannot be told."""
    if node is None or text_of(node):
        return text_of(node)
    if isinstance(node, ast.Name):
        for around in scope.chain:
            for value in around.binds.get(node.id, ()):
                inner = value.value if isinstance(value, ast.Await) else value
                if isinstance(inner, ast.Call) and last_name(inner.func) in makers:
                    return text_of(argument(inner, 0, "name", "queue", "exchange"))
    return ""


@in_module(
    "RMQ12", "declare_queue", "queue_declare", "declare_exchange", "exchange_declare", "bind", "queue_bind"
)
def routes(look: Look) -> Places:
    """Queues, exchanges, bindings and what is published, for the rules about the whole project."""
    if not speaks(look):
        return
    for call, _ in look.calls("declare_queue", "queue_declare"):
        found = literal(keyword(call, "arguments"))
        if not is_open(call):
            name = text_of(argument(call, 0, "name", "queue"))
            look.note("routed queue", call, (name, found if found is not None else {}))
    for call, _ in look.calls("declare_exchange", "exchange_declare"):
        kind = argument(call, 1, "type", "exchange_type")
        look.note("exchange", call, (text_of(argument(call, 0, "name", "exchange")), kind_of(kind)))
    for call, scope in look.calls("bind"):
        if isinstance(call.func, ast.Attribute):
            queue = named(call.func.value, scope, "declare_queue", "get_queue")
            exchange = named(argument(call, 0, "exchange"), scope, "declare_exchange", "get_exchange")
            look.note("binding", call, (queue, exchange, text_of(argument(call, 1, "routing_key")) or ...))
    for call, _ in look.calls("queue_bind"):
        queue, exchange = text_of(argument(call, 0, "queue")), text_of(argument(call, 1, "exchange"))
        look.note("binding", call, (queue, exchange, text_of(argument(call, 2, "routing_key")) or ...))
    return
    yield


def kind_of(node: ast.expr | None) -> str:
    """The type of an exchange; `direct` when it is not given."""
    if node is None:
        return "direct"
    return last_name(node).lower() if isinstance(node, ast.Attribute) else text_of(node)


def keys_to(project: Project, exchange: str) -> set[object]:
    """The routing keys that are bound to an exchange; `...` among them when one cannot be read."""
    return {key for _, other, key in bindings(project) if other == exchange or not other}


def bindings(project: Project) -> list[tuple[str, str, object]]:
    """Queue, exchange and key of every binding in the project."""
    return [note.value for note in project.notes.get("binding", []) if isinstance(note.value, tuple)]


def direct(project: Project) -> set[str]:
    """The names of the direct exchanges that the project declares."""
    return {note.value[0] for note in project.notes.get("exchange", [])
            if isinstance(note.value, tuple) and note.value[1] == "direct"}  # fmt: skip


@in_project("RMQ12")
def dead_letters_nowhere(project: Project) -> Places:
    """Dead letters that keep a key which nobody bound."""
    for note in project.notes.get("routed queue", []):
        assert isinstance(note.value, tuple)
        queue, arguments = note.value
        if not isinstance(arguments, dict) or ... in arguments or not queue or arguments.get(DLX_KEY):
            continue
        exchange = arguments.get(DLX)
        own = {queue, *(key for name, _, key in bindings(project) if name in {queue, ""})}
        bound = keys_to(project, exchange) if isinstance(exchange, str) else set()
        if exchange == "":
            yield note, "without a key the default exchange brings it back here"
        elif exchange in direct(project) and bound and ... not in own | bound and not own & bound:
            yield note, f"{exchange} has bindings for {', '.join(sorted(map(str, bound)))} only"


@in_module("RMQ13", "publish", "basic_publish")
def twice_after_failure(look: Look) -> Places:
    """Published for a retry, and dead-lettered as well."""
    if not speaks(look) or "dead-letter-exchange" not in look.project.mentioned:
        return
    for call, _ in look.calls("publish", "basic_publish"):
        statement, block = statement_of(look, call)
        later = block[block.index(statement) + 1 :] if statement in block else []
        handled = any(isinstance(p, ast.ExceptHandler) for p in look.module.above(call))
        if not handled or not {"body", "message"} & words_of(call):
            continue
        for one in later:
            raised = isinstance(one, ast.Raise) and any(in_process(look, p) for p in look.module.above(call))
            if raised or any(rejects(c) for c in ast.walk(one) if isinstance(c, ast.Call)):
                yield call
                break


def words_of(call: ast.Call) -> set[str]:
    """The names and attributes among a call's arguments."""
    values = [*call.args, *(k.value for k in call.keywords)]
    attributes = {one.attr for v in values for one in ast.walk(v) if isinstance(one, ast.Attribute)}
    return attributes | {name for v in values for name in names_in(v)}


def statement_of(look: Look, node: ast.AST) -> tuple[ast.stmt | None, list[ast.stmt]]:
    """The statement that a node is in, and its block."""
    block, at = look.siblings(node)
    return (block[at], block) if block else (None, [])


def rejects(call: ast.Call) -> bool:
    """Whether a message goes to the dead letters."""
    name, requeue = last_name(call.func), constant(keyword(call, "requeue"))
    if name == "reject" and isinstance(call.func, ast.Attribute):
        return requeue is False or (keyword(call, "requeue") is None and not call.args)
    return name in {"nack", "basic_nack", "basic_reject"} and requeue is False


@in_module("RMQ14", "publish", "basic_publish", "Message", "BasicProperties")
def published(look: Look) -> Places:
    """What RMQ14 and RMQ17 weigh when all modules are read."""
    if not speaks(look):
        return
    for call, scope in look.calls("publish"):
        if isinstance(call.func, ast.Attribute):
            exchange = named(call.func.value, scope, "declare_exchange", "get_exchange")
            look.note("published", call, (exchange, text_of(argument(call, 1, "routing_key"))))
    for call, _ in look.calls("basic_publish"):
        names = text_of(argument(call, 0, "exchange")), text_of(argument(call, 1, "routing_key"))
        look.note("published", call, names)
    for call, _ in look.calls("Message", "BasicProperties"):
        value = keyword(call, "priority")
        if value is not None and constant(value) not in {None, 0}:
            look.note("priority", call)
    return
    yield


@in_project("RMQ14")
def bound_nowhere(project: Project) -> Places:
    """Published to a key that no queue is bound by."""
    for note in project.notes.get("published", []):
        assert isinstance(note.value, tuple)
        exchange, key = note.value
        bound = keys_to(project, exchange)
        if exchange in direct(project) and key and bound and ... not in bound and key not in bound:
            yield note, f"{exchange} has bindings for {', '.join(sorted(map(str, bound)))} only"


@in_project("RMQ17")
def no_priority(project: Project) -> Places:
    """Priorities that the queue does not know."""
    queues = [note.value for note in project.notes.get("routed queue", []) if isinstance(note.value, tuple)]
    read = [arguments for _, arguments in queues if isinstance(arguments, dict) and ... not in arguments]
    for note in project.notes.get("routed queue", []):
        arguments = note.value[1] if isinstance(note.value, tuple) else None
        if (
            isinstance(arguments, dict)
            and arguments.get("x-queue-type") == "quorum"
            and PRIORITY in arguments
        ):
            yield note, "a quorum queue has no levels"
    classic = read and all(one.get("x-queue-type") in {None, "classic"} for one in read)
    if classic and len(read) == len(queues) and PRIORITY not in project.mentioned:
        yield from project.notes.get("priority", [])


@in_project("RMQ18")
def dropped_at_the_limit(project: Project) -> Places:
    """A quorum queue that drops what failed too often."""
    if "dead-letter-exchange" in project.mentioned:
        return
    for note in project.notes.get("routed queue", []):
        assert isinstance(note.value, tuple)
        name, arguments = note.value
        if isinstance(arguments, dict) and arguments.get("x-queue-type") == "quorum" and ... not in arguments:
            if not any(word in name for word in SPARED):
                yield Note(note.path, note.line, note.column)

"""Rules about handling messages, whatever brings them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from checkkit.look import LOGGING, Look, called_names, catches, is_quiet
from checkkit.rule import Places, in_module
from checkkit.syntax import (
    Scope,
    calls_in,
    constant,
    dotted,
    inside,
    is_open,
    keyword,
    last_name,
    names_in,
    text_of,
)

ACKS = ("ack", "xack", "basic_ack")
# What is done to a message before it is handled, and around it.
PARSING = {
    "loads",
    "model_validate", "model_validate_json", "parse_raw", "parse_obj", "decode", "get", "dict", "int",
    "str", "len", "from_dict", "items", "UUID", "validate_json", "validate_python", "isinstance", "getattr",
    "float", "bool", "list", "repr", "type", "append", "bind_contextvars", "heartbeat", "set", "time", "add",
} | LOGGING  # fmt: skip
BOUNDS = {
    "tenacity.retry": ("stop",),
    "backoff.on_exception": ("max_tries", "max_time"),
    "backoff.on_predicate": ("max_tries", "max_time"),
}
MESSAGES = {"message", "msg", "event", "delivery", "envelope"}
IDS = re.compile(r"message_?id|event_?id|msg_?id|entry_?id|idempot|dedup|processed|seen", re.IGNORECASE)


@in_module("CON01")
def ack_before_work(look: Look) -> Places:
    """Acknowledged, then done."""
    for call, scope in look.calls(*ACKS):
        if not isinstance(call.func, ast.Attribute) or not scope.is_function:
            continue
        if in_transaction(look, call, scope):
            yield call, "the transaction around it commits later"
            continue
        block, at = look.siblings(call)
        payload = payload_names(look, call, scope)
        before = any(works(s, payload) for s in block[:at])
        later = block[at + 1 :]
        commits = any(last_name(c.func) == "commit" for c in calls_in(later))
        if commits or (not before and any(works(s, payload) for s in later)):
            yield call


def in_transaction(look: Look, node: ast.AST, scope: Scope) -> bool:
    """Whether `async with session.begin()` is around it, and inside of any loop."""
    for parent in look.module.above(node):
        if parent is scope.node or isinstance(parent, ast.While | ast.For | ast.AsyncFor):
            return False
        if isinstance(parent, ast.With | ast.AsyncWith) and begins(look, parent, scope):
            return True
    return False


def begins(look: Look, node: ast.With | ast.AsyncWith, scope: Scope) -> bool:
    """Whether a `with` is a transaction."""
    for item in node.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "begin":
            made = look.type(call.func.value, scope)
            if (
                look.is_session(call.func.value, scope)
                or "sessionmaker" in made
                or "ession" in dotted(call.func.value)
            ):
                return True
    return False


def payload_names(look: Look, call: ast.Call, scope: Scope) -> set[str]:
    """Names of the message and of what was read from it."""
    names = set(scope.parameters) - {
        "self",
        "cls",
        "session",
        "db",
        "channel",
        "ch",
        "redis",
        "client",
        "method",
    }
    for parent in look.module.above(call):
        if parent is scope.node:
            break
        if isinstance(parent, ast.For | ast.AsyncFor):
            names |= names_in(parent.target)
    assert isinstance(call.func, ast.Attribute)
    if isinstance(call.func.value, ast.Name) and call.func.attr == "ack":
        names.add(call.func.value.id)
    for _ in range(2):
        for name, values in scope.binds.items():
            if any(names & names_in(value) for value in values):
                names.add(name)
    return names - {name for value in call.args for name in names_in(value)}  # the tag or id alone


def works(statement: ast.stmt, payload: set[str]) -> bool:
    """Whether a statement hands the message on to be handled."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    for call in calls_in([statement]):
        name = last_name(call.func)
        if name in PARSING or name in ACKS or name.startswith(("xa", "ack", "basic_")):
            continue
        values = [*call.args, *(k.value for k in call.keywords)]
        if any(payload & names_in(value) for value in values):
            return True
    return False


@in_module("CON02")
def failure_acked(look: Look) -> Places:
    """An error that is logged, and the message acknowledged."""
    for node in look.nodes(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        wide = node.type is None or catches(node, "Exception", "BaseException")
        if not wide or not all(is_quiet(s) for s in node.body):
            continue
        try_node = look.module.parents[node]
        if isinstance(try_node, ast.Try) and handles(try_node) and acked_after(look, try_node, node):
            yield node


def handles(node: ast.Try) -> bool:
    """Whether work is done in the `try`, which is not only the acknowledgement or a close."""
    names = called_names(node.body)
    side = {
        "close",
        "aclose",
        "rollback",
        "send",
        "set_result",
        "ping",
        "disconnect",
        "cancel",
        "publish_metric",
    }
    return bool(names - set(ACKS) - PARSING - side) and not names & {"nack", "reject"}


def acked_after(look: Look, node: ast.Try, handler: ast.ExceptHandler) -> bool:
    """Whether the message is acknowledged although the handler ran."""
    if called_names(node.finalbody) & set(ACKS):
        return True
    goes_on = not any(isinstance(s, ast.Continue) for s in handler.body)
    block, at = look.siblings(node)
    if not block and node in getattr(look.module.parents.get(node), "body", []):
        block = getattr(look.module.parents.get(node), "body", [])
        at = block.index(node)
    later = block[at + 1 : at + 4]
    if goes_on and any(isinstance(s, ast.Expr) and called_names([s]) & set(ACKS) for s in later):
        return True
    return any(in_process(look, parent) for parent in nearest(look, node))


def nearest(look: Look, node: ast.AST) -> Iterator[ast.AST]:
    """What is around a node, up to its function or loop."""
    for parent in look.module.above(node):
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.For | ast.AsyncFor | ast.While):
            return
        yield parent


def in_process(look: Look, node: ast.AST) -> bool:
    """Whether it is `async with message.process()`."""
    if not isinstance(node, ast.AsyncWith):
        return False
    calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
    ignored = any(constant(keyword(c, "ignore_processed")) is True for c in calls)
    named = any(isinstance(c.func, ast.Attribute) and c.func.attr == "process" for c in calls)
    return named and not ignored and look.project.uses("aio_pika")


@in_module("CON03")
def endless_retry(look: Look) -> Places:
    """A retry without an end."""
    for scope in look.module.scopes:
        for decorator in scope.decorators:
            call = decorator if isinstance(decorator, ast.Call) else None
            name = look.name(call.func if call else decorator)
            bounds = BOUNDS.get(name)
            if bounds and not bounded(call, *bounds):
                yield decorator
    for call, _ in look.calls("Retrying", "AsyncRetrying"):
        if look.name(call.func).startswith("tenacity.") and not bounded(call, "stop"):
            yield call


def bounded(call: ast.Call | None, *names: str) -> bool:
    """Whether one of the bounds is given, or may be."""
    return call is not None and (is_open(call) or any(keyword(call, name) is not None for name in names))


@in_module("CON04")
def no_wait(look: Look) -> Places:
    """Retries without a pause."""
    for scope in look.module.scopes:
        for decorator in scope.decorators:
            if isinstance(decorator, ast.Call) and look.name(decorator.func) == "tenacity.retry":
                if bounded(decorator, "stop") and not bounded(decorator, "wait"):
                    yield decorator
    for call, _ in look.calls("Retrying", "AsyncRetrying"):
        if (
            look.name(call.func).startswith("tenacity.")
            and bounded(call, "stop")
            and not bounded(call, "wait")
        ):
            yield call


@in_module("CON05")
def seen_in_memory(look: Look) -> Places:
    """What was handled is known to this process only."""
    for node in look.nodes(ast.Compare):
        assert isinstance(node, ast.Compare)
        if not isinstance(node.ops[0], ast.In | ast.NotIn):
            continue
        scope = look.module.function(node)
        name = dotted(node.comparators[0])
        if (
            scope is None
            or not name
            or not is_collection(look, name, scope)
            or not handles_messages(look, scope)
        ):
            continue
        if adds(scope, name) and IDS.search(ast.dump(node.left) + name):
            yield node


def is_collection(look: Look, name: str, scope: Scope) -> bool:
    """Whether the name is a set, dict or list that lives as long as the process."""
    holder = scope.owner if name.startswith("self.") else look.module.top
    values = holder.binds.get(name, []) if holder else []
    kinds = (ast.Set, ast.Dict, ast.List)
    made = {"set", "dict", "list", "defaultdict", "OrderedDict", "deque"}
    return any(
        isinstance(v, kinds) or (isinstance(v, ast.Call) and last_name(v.func) in made) for v in values
    )


def handles_messages(look: Look, scope: Scope) -> bool:
    """Whether a function handles what a broker delivers."""
    names = {last_name(c.func) for c in scope.calls}
    handler = bool(names & {*ACKS, "process", "xreadgroup"}) or bool(set(scope.parameters) & MESSAGES)
    return handler or look.is_task(scope)


def adds(scope: Scope, name: str) -> bool:
    """Whether the function adds to the collection."""
    for call in scope.calls:
        if last_name(call.func) in {"add", "append"} and dotted(call.func).rpartition(".")[0] == name:
            return True
    body = list(getattr(scope.node, "body", []))
    return any(isinstance(o, ast.Subscript) and dotted(o.value) == name and isinstance(o.ctx, ast.Store)
               for o in inside(body))  # fmt: skip


@in_module("CON06")
def fresh_key(look: Look) -> Places:
    """A key that is new on each attempt."""
    for node in look.nodes(ast.Dict):
        assert isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True):
            if text_of(key).lower() == "idempotency-key" and is_uuid(look, value, look.scope(node)):
                yield value
    for call, scope in [p for calls in look.module.by_name.values() for p in calls]:
        key_given = keyword(call, "idempotency_key")
        if key_given is not None and look.name(call.func).startswith("stripe."):
            if is_uuid(look, key_given, scope):
                yield key_given


def is_uuid(look: Look, node: ast.expr, scope: Scope) -> bool:
    """Whether a value is made of a fresh uuid."""
    if isinstance(node, ast.Name):
        values = scope.binds.get(node.id, [])
        return len(values) == 1 and not isinstance(values[0], ast.Name) and is_uuid(look, values[0], scope)
    if isinstance(node, ast.Attribute) and node.attr == "hex":
        return is_uuid(look, node.value, scope)
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(v, ast.FormattedValue) and is_uuid(look, v.value, scope) for v in node.values)
    if not isinstance(node, ast.Call):
        return False
    if last_name(node.func) == "str" and node.args:
        return is_uuid(look, node.args[0], scope)
    return look.name(node.func) in {"uuid.uuid4", "uuid.uuid1", "uuid.uuid7"}


@in_module("CON07")
def seen_before_work(look: Look) -> Places:
    """Marked as done before it is."""
    for node in look.nodes(ast.If):
        assert isinstance(node, ast.If)
        scope = look.module.function(node)
        if scope is None or not handles_messages(look, scope):
            continue
        test = node.test.operand if isinstance(node.test, ast.UnaryOp) else node.test
        call = bound_call(test, scope)
        skips = any(isinstance(o, ast.Return | ast.Continue) for s in node.body for o in ast.walk(s))
        if call is None or not skips or constant(keyword(call, "nx")) is not True:
            continue
        key = key_text(call.args[0] if call.args else keyword(call, "name"))
        forgets = {"delete", "unlink", "expire"} & {last_name(c.func) for c in scope.calls}
        if last_name(call.func) == "set" and IDS.search(key) and not forgets:
            yield call


def bound_call(node: ast.expr, scope: Scope) -> ast.Call | None:
    """A call, awaited or not, itself or through a name or `is None`."""
    if isinstance(node, ast.Compare):
        node = node.left
    if isinstance(node, ast.Name):
        values = scope.binds.get(node.id, [])
        node = values[-1] if values else node
    node = node.value if isinstance(node, ast.Await) else node
    return node if isinstance(node, ast.Call) else None


def key_text(node: ast.expr | None) -> str:
    """The names and texts that a key is made of."""
    nodes = ast.walk(node) if node is not None else ()
    return " ".join(
        str(getattr(n, "id", "") or getattr(n, "attr", "") or getattr(n, "value", "")) for n in nodes
    )


@in_module("CON08")
def told_by_text(look: Look) -> Places:
    """The kind of an error, told by its words."""
    for node in look.nodes(ast.Compare):
        assert isinstance(node, ast.Compare)
        if not isinstance(node.ops[0], ast.In) or not text_of(node.left):
            continue
        caught = next((p for p in look.module.above(node) if isinstance(p, ast.ExceptHandler)), None)
        right = node.comparators[0]
        while (
            isinstance(right, ast.Call)
            and isinstance(right.func, ast.Attribute)
            and right.func.attr in {"lower", "upper", "casefold"}
        ):
            right = right.func.value
        told = isinstance(right, ast.Call) and last_name(right.func) in {"str", "repr"} and right.args
        if caught is None or not told or not caught.name or not decides(look, node, caught):
            continue
        assert isinstance(right, ast.Call)
        if dotted(right.args[0]) == caught.name:
            yield node


def decides(look: Look, node: ast.AST, caught: ast.ExceptHandler) -> bool:
    """Whether the message is retried or given up for it."""
    names = called_names(caught.body)
    raised = any(isinstance(o, ast.Raise) for s in caught.body for o in ast.walk(s))
    settles = {"retry", "nack", "reject", "ack", "requeue", "publish", "xack", "basic_nack", "basic_reject"}
    function = look.module.function(node)
    return bool(names & settles) or (raised and function is not None and look.is_task(function))

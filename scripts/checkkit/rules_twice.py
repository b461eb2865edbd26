"""Rules about messages that come twice, and keys that tell them apart."""

from __future__ import annotations

import ast
import re

from checkkit.look import Look
from checkkit.nodes import constant, dotted, inside, keyword, last_name, text_of
from checkkit.rule import Places, in_module
from checkkit.rules_consumers import ACKS
from checkkit.scope import Scope

MESSAGES = {"message", "msg", "event", "delivery", "envelope"}


INBOXES = ("Inbox", "Processed", "Handled", "Idempot", "Dedup", "SeenMessage", "SeenEvent", "Received")
INBOX = re.compile("|".join(INBOXES))
SAFE = re.compile(r"on_conflict|IntegrityError|for_update|begin_nested|advisory")
IDS = re.compile(r"message_?id|event_?id|msg_?id|entry_?id|idempot|dedup|processed|seen", re.IGNORECASE)


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
    if "dempotency" not in look.module.text:
        return
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
    if "nx=True" not in look.module.text:
        return
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


@in_module("CON10")
def looked_up_first(look: Look) -> Places:
    """Two consumers look, both find nothing, and both work."""
    if not any(word in look.module.text for word in INBOXES):
        return
    for scope in look.module.scopes:
        made = {last_name(c.func) for c in scope.calls} if scope.is_function else set()
        tables = {name for name in made if INBOX.search(name) and name[:1].isupper()}
        if not tables or SAFE.search(source_of(look, scope)):
            continue
        for call in scope.calls:
            asked = last_name(call.func) in {"select", "get", "query", "exists"} and call.args
            if asked and tables & set(dotted(call.args[0]).split(".")):
                yield call
                break


def source_of(look: Look, scope: Scope) -> str:
    """The lines of a function."""
    start = getattr(scope.node, "lineno", 1) - 1
    return "\n".join(look.module.lines[start : getattr(scope.node, "end_lineno", start + 1)])

"""Rules about RabbitMQ's queues, exchanges and bindings."""

from __future__ import annotations

import ast

from checkkit.celery_config import literal
from checkkit.look import Look
from checkkit.nodes import constant, dotted, is_open, keyword, text_of
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.rule import Places, in_module, in_project
from checkkit.rules_rabbit import speaks
from checkkit.scope import Scope


@in_module("RMQ10", "declare_queue", "queue_declare")
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


@in_module("RMQ11", "declare_queue", "queue_declare")
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

"""Messages of programs that write no CloudEvents: a consumer's `translate` says what they are.

What is a CloudEvent already is taken as it is, so both may come side by side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message as its broker has it.

    `id` is the entry's in a Redis stream, or RabbitMQ's property message_id, which many senders leave empty.
    Where there is no better one an entry's id will do: it stays the same over retries, but what is sent twice
    has two. `fields` are those of the entry, or the headers.
    """

    id: str
    body: bytes
    fields: Mapping[str, Any] = field(default_factory=dict)


Translate = Callable[[Foreign], bytes]
"""Makes the bytes of a CloudEvent, by `build`, with the same id for the same message on each delivery. It
asks nobody and changes nothing. What it raises makes the message a dead letter, which is as it came.
"""


def as_event(message: Foreign, translate: Translate) -> bytes:
    """The message as a CloudEvent."""
    return message.body if is_event(message.body) else translate(message)


def is_event(body: bytes) -> bool:
    """Whether the bytes claim to be a CloudEvent. Whether they are right in that is the reader's business."""
    if b'"specversion"' not in body:
        return False
    try:
        value = json.loads(body)
    except ValueError:
        return False
    return isinstance(value, dict) and "specversion" in value

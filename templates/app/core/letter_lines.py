"""Dead letters as text: JSON lines that can be read back exactly, and lines for people."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.core.dead_letters import Group, Letter
from app.core.outcomes import WorkerError

REASON_WIDTH = 160
READERS: dict[str, Callable[[Any], Any]] = {
    "$base64": lambda text: base64.b64decode(text, validate=True),
    "$time": datetime.fromisoformat,
    "$decimal": Decimal,
}


class LineError(WorkerError):
    """A line that `to_line` did not write."""


def to_line(letter: Letter) -> str:
    """One line of JSON, in ASCII. `id`, `type` and `message_id` are there to be searched for."""
    event = letter.event
    line: dict[str, Any] = {
        "id": letter.id,
        "at": letter.at.isoformat() if letter.at else None,
        "reason": letter.reason,
        "deliveries": letter.deliveries,
        "origin": letter.origin,
        "type": event.get("type"),
        "message_id": event.get("id"),
        "headers": encoded(dict(letter.headers)),
        "properties": encoded(dict(letter.properties)),
    }
    return json.dumps({**line, **body_of(letter)})


def body_of(letter: Letter) -> dict[str, str]:
    """The body as it can stand in JSON: text, or base64 where it is not UTF-8."""
    if letter.body is None:
        return {}
    try:
        return {"body": letter.body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(letter.body).decode()}


def from_line(line: str) -> Letter:
    """The letter of a line. Raises LineError."""
    try:
        found = json.loads(line)
        body = found["body"].encode() if "body" in found else None
        if "body_base64" in found:
            body = base64.b64decode(found["body_base64"], validate=True)
        return Letter(
            id=str(found.get("id") or ""),
            body=body,
            reason=str(found["reason"]),
            deliveries=int(found.get("deliveries") or 0),
            at=datetime.fromisoformat(found["at"]).astimezone(UTC) if found.get("at") else None,
            origin=str(found.get("origin") or ""),
            headers={**decoded(found.get("headers") or {})},
            properties={**decoded(found.get("properties") or {})},
        )
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise LineError(f"not a line that `export` wrote: {type(error).__name__}: {error}") from error


def encoded(value: Any) -> Any:
    """A header's value as JSON; what JSON has no form for is a table with one key, which begins with $."""
    match value:
        case bytes() | bytearray():
            return {"$base64": base64.b64encode(value).decode()}
        case datetime():
            return {"$time": value.isoformat()}
        case Decimal():
            return {"$decimal": str(value)}
        case list():
            return [encoded(item) for item in value]
        case dict():
            table = {name: encoded(item) for name, item in value.items()}
            return {"$table": table} if any(name.startswith("$") for name in table) else table
        case _:
            return value


def decoded(value: Any) -> Any:
    """The value that `encoded` was given."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    for name, content in value.items() if len(value) == 1 else ():
        if name in READERS:
            return READERS[name](content)
        if name == "$table":
            value = content
    return {name: decoded(item) for name, item in value.items()}


def row(letter: Letter) -> str:
    """One line for people: id, time, deliveries, type and reason, with tabs between."""
    cells = (
        letter.id,
        stamp(letter.at),
        str(letter.deliveries),
        letter.event.get("type", "-"),
        letter.reason,
    )
    return "\t".join(harmless(cell)[:REASON_WIDTH] for cell in cells)


def group_row(group: Group) -> str:
    """One line for people: how many, since when, until when, an example, type and reason."""
    times = stamp(group.oldest), stamp(group.newest)
    cells = (str(group.count), *times, group.example, group.type or "-", group.reason)
    return "\t".join(harmless(cell)[:REASON_WIDTH] for cell in cells)


def group_line(group: Group) -> dict[str, Any]:
    """A group as JSON."""
    times = {name: at.isoformat() for name in ("oldest", "newest") if (at := getattr(group, name))}
    return {**asdict(group), "oldest": None, "newest": None, **times}


def page(letter: Letter) -> Iterator[str]:
    """All about a letter, for people. It came from outside: nothing in it may steer a terminal."""
    event = letter.event
    told = {
        "id": letter.id,
        "type": event.get("type", "-"),
        "message": f"{event.get('source', '-')} {event.get('id', '-')}",
        "set aside": stamp(letter.at),
        "in": letter.origin or "-",
        "deliveries": letter.deliveries,
        "reason": letter.reason,
        **{f"header {name}": value for name, value in letter.headers.items()},
        **{f"property {name}": value for name, value in letter.properties.items()},
    }
    yield from (f"{harmless(name)}: {harmless(str(value))}" for name, value in told.items())
    yield ""
    yield from map(harmless, pretty(letter.body).split("\n"))


def pretty(body: bytes | None) -> str:
    """The body indented when it is JSON, else as text; bytes that are not UTF-8 as escapes."""
    if body is None:
        return "(no body)"
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body.decode(errors="backslashreplace")


def harmless(text: str) -> str:
    """The text with everything that is not printable as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def stamp(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else "-"

"""Checks JSON against a schema of draft 4, as far as the schema of SARIF uses it.

A keyword that is not known here is an error, so that nothing passes because it was not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
TELLS_NOTHING = {"description", "default", "title", "id", "$schema", "definitions", "format"}
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


class Validator:
    """One schema."""

    def __init__(self, schema: Schema) -> None:
        self.root = schema

    def errors(self, value: Any, schema: Schema | None = None, at: str = "$") -> Iterator[str]:
        """What is wrong with a value, and where."""
        schema = self.root if schema is None else schema
        if "$ref" in schema:  # in draft 4 nothing beside it counts
            yield from self.errors(value, self.definition(schema["$ref"]), at)
            return
        for name, wanted in schema.items():
            if name not in TELLS_NOTHING:
                yield from self.of_keyword(name, wanted, value, schema, at)

    def definition(self, reference: str) -> Schema:
        """What `#/definitions/NAME` stands for."""
        found: Any = self.root
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert isinstance(found, dict)
        return found

    def of_keyword(self, name: str, wanted: Any, value: Any, schema: Schema, at: str) -> Iterator[str]:
        """What one keyword says."""
        if name in {"properties", "additionalProperties", "required"}:
            yield from self.of_object(name, wanted, value, schema, at) if isinstance(value, dict) else ()
        elif name in {"items", "minItems", "uniqueItems"}:
            yield from self.of_array(name, wanted, value, at) if isinstance(value, list) else ()
        elif name in {"anyOf", "oneOf"}:
            fitting = sum(not list(self.errors(value, one, at)) for one in wanted)
            if not fitting or (name == "oneOf" and fitting > 1):
                yield f"{at}: {fitting} of {name} fit"
        elif not is_simple(name, wanted, value):
            yield f"{at}: {name} {wanted!r} does not hold for {value!r}"

    def of_object(self, name: str, wanted: Any, value: Any, schema: Schema, at: str) -> Iterator[str]:
        """Members of an object."""
        known = schema.get("properties", {})
        if name == "required":
            yield from (f"{at}: {one} is missing" for one in wanted if one not in value)
        elif name == "properties":
            for key in value.keys() & wanted.keys():
                yield from self.errors(value[key], wanted[key], f"{at}.{key}")
        elif wanted is False:
            yield from (f"{at}: {one} is not allowed" for one in value.keys() - known.keys())
        elif isinstance(wanted, dict):
            for key in value.keys() - known.keys():
                yield from self.errors(value[key], wanted, f"{at}.{key}")

    def of_array(self, name: str, wanted: Any, value: list[Any], at: str) -> Iterator[str]:
        """Items of an array."""
        if name == "items":
            for index, one in enumerate(value):
                yield from self.errors(one, wanted, f"{at}[{index}]")
        elif name == "minItems" and len(value) < wanted:
            yield f"{at}: fewer than {wanted} items"
        elif name == "uniqueItems" and wanted and len({repr(one) for one in value}) < len(value):
            yield f"{at}: an item twice"


def is_simple(name: str, wanted: Any, value: Any) -> bool:
    """Whether a keyword about one plain value holds."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "type":
        kinds = wanted if isinstance(wanted, list) else [wanted]
        fits = any(isinstance(value, TYPES[kind]) for kind in kinds)
        return fits and (not isinstance(value, bool) or "boolean" in kinds)
    if name == "enum":
        return value in wanted
    if name == "pattern":
        return not isinstance(value, str) or re.search(wanted, value) is not None
    if name == "minimum":
        return not number or value >= wanted
    if name == "maximum":
        return not number or value <= wanted
    raise ValueError(f"{name}: no keyword that this validator knows")

"""Values that fit what a worker says of its payload."""

from __future__ import annotations

from typing import Any

FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "someone@example.com",
    "uri": "https://example.com/",
}


def of(model: Any) -> dict[str, Any]:
    """A payload that fits a pydantic model, and the names that it requires."""
    schema = model.model_json_schema()
    return {"payload": sample(schema, schema.get("$defs", {})), "required": schema.get("required", [])}


def sample(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """A value that fits a JSON schema as pydantic writes it."""
    if "$ref" in schema:
        return sample(known[schema["$ref"].rpartition("/")[2]], known)
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return sample(choices[0], known)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values:
        return values[0]
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return {name: sample(properties[name], known) for name in schema.get("required", properties)}
    if schema.get("type") == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get("minItems", 1)
        return [sample(item, known) for item in items]
    return plain_sample(schema)


def plain_sample(schema: dict[str, Any]) -> Any:
    """A value without parts. Texts are of the format and the length that the schema asks for."""
    match schema.get("type"):
        case "integer" | "number":
            return max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            name = str(schema.get("title", "text")).lower().replace(" ", "-")
            fitting = name.ljust(schema.get("minLength", 0), "-")[: schema.get("maxLength")]
            return FORMATS.get(schema.get("format", ""), fitting)

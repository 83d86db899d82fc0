"""Answers as JSON, when the request asks for a JSON object or for one of a JSON schema."""

import json
from typing import Any
from zlib import crc32

from local.provider.errors import invalid

MAX_DEPTH = 8


def fitting(schema: Any, text: str) -> str:
    """A JSON text for this schema that depends on the text; {"answer": text} without a schema. Raises RefusedError."""
    if not isinstance(schema, dict):
        return json.dumps({"answer": text})
    try:
        return json.dumps(_instance(schema, schema, text, "", 0))
    except (TypeError, ValueError, AttributeError) as unfit:
        raise invalid("response_format", f"Invalid schema for response_format: {unfit}.") from None


def _instance(schema: Any, root: dict[str, Any], text: str, path: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    mark = crc32(f"{path} {text}".encode())
    if reference := schema.get("$ref"):
        return _instance(_referred(root, str(reference)), root, text, path, depth + 1)
    if "const" in schema:
        return schema["const"]
    for choices in (schema.get("enum"), schema.get("examples")):
        if isinstance(choices, list) and choices:
            return choices[mark % len(choices)]
    for options in (schema.get("anyOf"), schema.get("oneOf"), schema.get("allOf")):
        if isinstance(options, list) and options:
            return _instance(options[0], root, text, path, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            properties = schema.get("properties")
            names = properties if isinstance(properties, dict) else {}
            return {name: _instance(inner, root, text, f"{path}/{name}", depth + 1) for name, inner in names.items()}
        case "array":
            number = max(1, int(schema.get("minItems", 1)))
            items = schema.get("items", {})
            return [_instance(items, root, text, f"{path}/{at}", depth + 1) for at in range(min(number, 16))]
        case "integer" | "number":
            low = schema.get("minimum", 0)
            high = schema.get("maximum", low + 9)
            return low + mark % (int(high - low) + 1)
        case "boolean":
            return mark % 2 == 0
        case "null":
            return None
        case _:
            return text


def _referred(root: dict[str, Any], reference: str) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step) if step and isinstance(found, dict) else found
    return found

"""As much of JSON Schema as the tests' own schemas use."""

import json
import re
from typing import Any

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    if "anyOf" in schema:
        return any(fits(value, each) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if "const" in schema:
        return bool(value == schema["const"])
    match schema["type"]:
        case "integer":
            is_number = isinstance(value, int) and not isinstance(value, bool)
            low, high = schema.get("minimum", -1e9), schema.get("maximum", 1e9)
            return is_number and low <= value <= high
        case "object":
            known = schema["properties"]
            return (
                isinstance(value, dict)
                and set(schema["required"]) <= value.keys() <= known.keys()
                and all(fits(each, known[key]) for key, each in value.items())
            )
        case "array":
            return (
                isinstance(value, list)
                and len(value) <= schema["maxItems"]
                and all(fits(each, schema["items"]) for each in value)
            )
        case "string":
            return (
                isinstance(value, str)
                and len(value) <= schema.get("maxLength", 1000)
                and re.search(schema.get("pattern", ""), value) is not None
            )
        case other:
            return isinstance(value, _TYPES[other])


def fitting(text: str, schema: dict[str, Any]) -> bool:
    return fits(json.loads(text), schema)

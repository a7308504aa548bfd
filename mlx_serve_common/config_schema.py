"""The JSON schema of ``config.yaml``, for editors.

Invariants: the schema allows whatever the server reads from a file, except that the server reads
choices in any case.
"""

from typing import Any

import msgspec

from mlx_serve_common.config import Config
from mlx_serve_common.config_file import RENAMED
from mlx_serve_common.settings import KEYS, SECTIONS

SCHEMA_FILE = "config.schema.json"

_SIZE = r"^\s*\d{1,15}(\.\d{1,6})?\s*([kKmMgGtT]?[iI]?[bB])?\s*$"


def config_schema() -> dict[str, Any]:
    (_, components) = msgspec.json.schema_components([Config], ref_template="#/$defs/{name}")
    root = components.pop("Config")
    properties = {name: {"$ref": root["properties"][name]["$ref"]} for name in SECTIONS}
    for section in components.values():
        section["type"] = ["object", "null"]  # null: all of its keys are commented out
    for old, new in RENAMED.items():
        properties[old] = {
            **_property(components, new),
            "description": f"Deprecated; write {new} instead",
            "deprecated": True,
        }
    for key in KEYS.values():
        if key.is_size:
            _allow_size_text(_property(components, key.name))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.yaml of mlx-serve",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": components,
    }


def schema_text() -> str:
    """The schema as a file has it."""
    return msgspec.json.format(msgspec.json.encode(config_schema()), indent=2).decode() + "\n"


def _allow_size_text(accepted: dict[str, Any]) -> None:
    if "anyOf" in accepted:
        accepted["anyOf"].append({"type": "string", "pattern": _SIZE})
    else:  # bounds only concern numbers, a pattern only text
        accepted.update(type=["integer", "string"], pattern=_SIZE)


def _property(components: dict[str, Any], name: str) -> dict[str, Any]:
    section, _, leaf = name.partition(".")
    found: dict[str, Any] = components[f"{section.capitalize()}Config"]["properties"][leaf]
    return found

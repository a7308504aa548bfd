"""The form that an answer must have, as a JSON schema: ``response_format`` and its cousins."""

from typing import Any

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError

ANY_OBJECT = '{"type":"object"}'


def schema_of(given: dict[str, Any] | None, param: str) -> str | None:
    """None if any text will do."""
    match given:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return ANY_OBJECT
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return encoded(schema)
        case {"type": "json_schema", "schema": dict() as schema}:
            # As /v1/responses has it.
            return encoded(schema)
        case {"type": "json_schema"}:
            raise ServeError(
                ErrorCode.INVALID_REQUEST, f"{param}: a json_schema holds a schema", param=param
            )
        case _:
            kind = str(given.get("type"))[:64]
            raise ServeError(
                ErrorCode.UNSUPPORTED_PARAMETER,
                f"{param}: is of type text, json_object or json_schema, not {kind!r}",
                param=param,
            )


def encoded(schema: dict[str, Any]) -> str:
    return msgspec.json.encode(schema).decode()

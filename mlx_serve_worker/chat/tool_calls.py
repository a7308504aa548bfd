"""What a model writes where it calls a tool, as calls.

Invariants: what is no call by the model's own way of writing them is told apart, never guessed at;
arguments are a JSON object.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from mlx_serve_common.chat import ToolCall

log = logging.getLogger(__name__)

Parse = Callable[[str, list[dict[str, Any]]], Any]


def read_calls(text: str, parse: Parse, tools: list[dict[str, Any]]) -> list[ToolCall] | None:
    """None if the text is no call."""
    try:
        parsed = parse(text, tools)
        return [_call(each) for each in (parsed if isinstance(parsed, list) else [parsed])] or None
    except Exception as error:
        # Parsers of many formats, fed with whatever a model may write.
        log.info("the model wrote a tool call that cannot be read: %s", type(error).__name__)
        return None


def parse_json(text: str, tools: list[dict[str, Any]]) -> Any:
    return json.loads(text)


def _call(parsed: Any) -> ToolCall:
    name, arguments = parsed["name"], parsed.get("arguments", {})
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("no call")
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False, allow_nan=False))

"""Ollama's messages in OpenAI's shape, which everything behind the endpoints reads.

Ollama's clients need not say which call a tool answers: unnamed calls get ids in their order, and
an answer without one belongs to the first unanswered call of its tool.
"""

from collections import defaultdict, deque
from typing import Any

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.conversation_bounds import check_parts


class CalledFunction(msgspec.Struct):
    name: str
    arguments: dict[str, Any] | str | None = None


class OllamaCall(msgspec.Struct):
    function: CalledFunction
    id: str | None = None


class OllamaMessage(msgspec.Struct, kw_only=True):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Unanswered:
    """The calls whose answers have not come, found at once however many there are."""

    def __init__(self) -> None:
        self._by_id: dict[str, OllamaCall] = {}
        self._in_order: defaultdict[str | None, deque[OllamaCall]] = defaultdict(deque)
        """Of one tool, or of all."""
        self._made = 0

    def add(self, call: OllamaCall) -> None:
        # Nine letters and digits: templates of Mistral's take no other id.
        call.id = call.id or f"call{self._made:05d}"
        self._made += 1
        self._by_id[call.id] = call
        self._in_order[call.function.name].append(call)
        self._in_order[None].append(call)

    def pop(self, id: str | None, tool: str | None) -> OllamaCall | None:
        if id:
            return self._by_id.pop(id, None)
        queue = self._in_order[tool or None]
        while queue:
            call = queue.popleft()
            if self._by_id.pop(call.id or "", None) is not None:
                return call
        return None


def in_openais_shape(messages: list[OllamaMessage]) -> list[dict[str, Any]]:
    check_parts(message.tool_calls for message in messages)
    put: list[dict[str, Any]] = []
    unanswered = _Unanswered()
    for message in messages:
        refuse_images(message.images)
        for call in message.tool_calls or []:
            unanswered.add(call)
        if message.role.lower() == "tool":
            answered = unanswered.pop(message.tool_call_id, message.tool_name)
            if answered is not None:
                message.tool_call_id, message.tool_name = answered.id, answered.function.name
        put.append(_in_openais_shape(message))
    return put


def refuse_images(images: list[Any] | None) -> None:
    if images:
        raise ServeError(
            ErrorCode.UNSUPPORTED_PARAMETER,
            "images: the model reads text only; it does not support vision",
            param="images",
        )


def _in_openais_shape(message: OllamaMessage) -> dict[str, Any]:
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments or {}},
        }
        for call in message.tool_calls or []
    ]
    shaped = {
        "role": message.role.lower(),
        "content": message.content or "",
        "reasoning_content": message.thinking,
        "tool_calls": calls,
        "tool_call_id": message.tool_call_id,
        "name": message.tool_name,
    }
    return {name: value for name, value in shaped.items() if value or name == "content"}

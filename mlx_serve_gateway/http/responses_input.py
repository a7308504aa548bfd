"""Items of /v1/responses as messages in OpenAI's older shape, which everything behind reads.

Invariants: what an assistant thought, said and called in a row is one message; an item that a text
model cannot read, or that only a server with a memory knows, is refused by its place.
"""

from typing import Any

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.codec import invalid_request


class InputItem(msgspec.Struct, kw_only=True):
    type: str = "message"
    # a message
    role: str | None = None
    content: Any = None
    # a call, and what it gave
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Any = None
    # thoughts
    summary: list[Any] | None = None


class _Given(msgspec.Struct):
    input: list[InputItem]


def in_messages_shape(instructions: str | None, given: str | list[Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for at, item in enumerate(_items(given)):
        match item.type:
            case "message":
                _add_message(messages, item, at)
            case "function_call":
                _add_to_assistant(messages, tool_calls=[_call(item)])
            case "function_call_output":
                content = "" if item.output is None else item.output
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": content})
            case "reasoning":
                _add_to_assistant(messages, reasoning_content=[_thought(item, at)])
            case _:
                raise _unsupported(at, item.type)
    for message in messages:
        if thoughts := message.get("reasoning_content"):
            message["reasoning_content"] = "".join(thoughts)
    return messages


def _items(given: str | list[Any]) -> list[InputItem]:
    if not given:
        raise ServeError(ErrorCode.EMPTY_INPUT, "input must not be empty", param="input")
    if isinstance(given, str):
        return [InputItem(role="user", content=given)]
    try:
        return msgspec.convert({"input": given}, _Given).input
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None


def _add_message(messages: list[dict[str, Any]], item: InputItem, at: int) -> None:
    if item.role is None:
        raise _invalid(at, "a message has a role")
    if item.role == "assistant" and _is_mute(messages):
        messages[-1]["content"] = item.content
    else:
        messages.append({"role": item.role, "content": item.content})


def _is_mute(messages: list[dict[str, Any]]) -> bool:
    """Whether the last message is an assistant's that has only thought so far."""
    return (
        bool(messages)
        and messages[-1]["role"] == "assistant"
        and not (messages[-1]["content"] or messages[-1].get("tool_calls"))
    )


def _add_to_assistant(messages: list[dict[str, Any]], **more: list[Any]) -> None:
    last = messages[-1] if messages else {}
    begins = "reasoning_content" in more and (last.get("content") or last.get("tool_calls"))
    if last.get("role") != "assistant" or begins:
        messages.append({"role": "assistant", "content": None})
    for name, value in more.items():
        messages[-1].setdefault(name, []).extend(value)


def _call(item: InputItem) -> dict[str, Any]:
    function = {"name": item.name, "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _thought(item: InputItem, at: int) -> str:
    parts = item.summary or item.content or []
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    if len(known) < len(texts):
        raise _invalid(at, "reasoning consists of parts with a text")
    return "\n".join(known)


def _invalid(at: int, why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"input[{at}]: {why}", param="input")


def _unsupported(at: int, kind: str) -> ServeError:
    return ServeError(
        ErrorCode.UNSUPPORTED_PARAMETER,
        f"input[{at}]: items of type {kind[:64]!r} are not supported; messages, function_call, "
        "function_call_output and reasoning are",
        param="input",
    )

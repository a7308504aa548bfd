"""Messages in OpenAI's shape, as clients send them, made what chat templates read.

Invariants: content is a text, arguments of calls are objects, a field that says nothing is left
out; what a text model cannot read (images, sound) is refused, never dropped.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_gateway.http.codec import invalid_request
from mlx_serve_gateway.http.conversation_bounds import check_parts

Role = Literal["system", "developer", "user", "assistant", "tool"]

_ROLES = get_args(Role)
_TEXTS = ("text", "input_text", "output_text")
# Parts of one message are paragraphs of one text, as vLLM and llama.cpp read them.
_BETWEEN_PARTS = "\n"


class MessagePart(msgspec.Struct, kw_only=True):
    type: str
    text: str | None = None
    refusal: str | None = None


class GivenFunction(msgspec.Struct, kw_only=True):
    name: str
    arguments: str | dict[str, Any] | None = None


class GivenCall(msgspec.Struct, kw_only=True):
    id: str | None = None
    type: str | None = None
    function: GivenFunction | None = None


class ChatMessage(msgspec.Struct, kw_only=True):
    role: str
    content: str | list[MessagePart | str] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    name: str | None = None
    tool_calls: list[GivenCall] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None


class _Given(msgspec.Struct):
    messages: list[ChatMessage]


def read_messages(given: Sequence[Any]) -> list[dict[str, Any]]:
    """The ``messages`` of a ``Conversation``."""
    if not given:
        raise ServeError(ErrorCode.EMPTY_INPUT, "messages must not be empty", param="messages")
    objects = [message for message in given if isinstance(message, dict)]
    check_parts(message.get(name) for message in objects for name in ("content", "tool_calls"))
    try:
        messages = msgspec.convert({"messages": given}, _Given).messages
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    return [_read(message, f"messages[{at}]") for at, message in enumerate(messages)]


def begins_answer(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether the last message is the beginning of the answer, in APIs that mean it so."""
    return messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]


def _read(message: ChatMessage, at: str) -> dict[str, Any]:
    if message.role not in _ROLES:
        raise _invalid(f"{at}.role", f"{message.role[:64]!r} is none of {', '.join(_ROLES)}")
    if message.audio is not None:
        raise _unsupported(f"{at}.audio", "the model reads text only")
    if message.function_call is not None:
        raise _unsupported(f"{at}.function_call", "is outdated; send tool_calls")
    if message.tool_calls and message.role != "assistant":
        raise _invalid(f"{at}.tool_calls", "only an assistant calls tools")
    read: dict[str, Any] = {"role": message.role, "content": _content(message, at)}
    if thought := message.reasoning_content or message.reasoning:
        read["reasoning_content"] = thought
    if message.tool_calls:
        read["tool_calls"] = [
            _call(call, f"{at}.tool_calls[{index}]")
            for index, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        read["tool_call_id"] = message.tool_call_id
    if message.name:
        read["name"] = message.name
    return read


def _content(message: ChatMessage, at: str) -> str:
    content = message.content
    if content is None and message.role == "assistant":
        # What it said may have been calls only, thoughts only, or nothing.
        return message.refusal or ""
    if content is None:
        raise _invalid(f"{at}.content", "is required: a text, or a list of text parts")
    if isinstance(content, str):
        return content
    parts = enumerate(content)
    return _BETWEEN_PARTS.join(_part(part, f"{at}.content[{index}]") for index, part in parts)


def _part(part: MessagePart | str, at: str) -> str:
    if isinstance(part, str):
        return part
    if part.type == "refusal":
        return part.refusal or ""
    if part.type not in _TEXTS:
        raise _unsupported(at, f"the model reads text only, not {part.type[:64]!r}")
    if part.text is None:
        raise _invalid(f"{at}.text", "is required")
    return part.text


def _call(call: GivenCall, at: str) -> dict[str, Any]:
    function = call.function
    if function is None:
        raise _unsupported(at, f"only functions can be called, not {str(call.type)[:64]!r}")
    arguments = _arguments(function.arguments, f"{at}.function.arguments")
    named = {} if call.id is None else {"id": call.id}
    return named | {
        "type": "function",
        "function": {"name": function.name, "arguments": arguments},
    }


def _arguments(given: str | dict[str, Any] | None, at: str) -> dict[str, Any]:
    """OpenAI's clients send the JSON text that they were given; of no arguments, an empty one."""
    if isinstance(given, dict):
        return given
    if given is None or not given.strip():
        return {}
    try:
        return msgspec.json.decode(given, type=dict[str, Any])
    except UNDECODABLE:
        raise _invalid(at, "is a text that holds a JSON object") from None


def _invalid(at: str, why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{at}: {why}", param="messages")


def _unsupported(at: str, why: str) -> ServeError:
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, f"{at}: {why}", param="messages")

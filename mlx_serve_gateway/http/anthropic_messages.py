"""Anthropic's messages in OpenAI's shape, which everything behind the endpoints reads.

Invariants: a tool's result is a message of its own, in the place where it stood; what is no text is
refused.
"""

from collections.abc import Iterator
from typing import Any

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.anthropic_request import (
    Block,
    CountRequest,
    DocumentBlock,
    ImageBlock,
    Message,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from mlx_serve_gateway.http.chat_messages import read_messages
from mlx_serve_gateway.http.conversation_bounds import check_parts


def conversation_messages(body: CountRequest) -> list[dict[str, Any]]:
    """As a ``Conversation`` has them."""
    check_parts(message.content for message in body.messages)
    shaped = [each for message in body.messages for each in _in_openais_shape(message)]
    messages = read_messages(shaped)
    if body.system:
        messages.insert(0, {"role": "system", "content": _system(body.system)})
    return messages


def _in_openais_shape(message: Message) -> Iterator[dict[str, Any]]:
    """One message for each tool's result, and one for whatever stands between them."""
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
        return
    between: list[Block] = []
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            yield from _joined(message.role, between)
            between = []
            content = _parts(block.content)
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}
        else:
            between.append(block)
    yield from _joined(message.role, between)


def _joined(role: str, blocks: list[Block]) -> Iterator[dict[str, Any]]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        match block:
            case TextBlock(text=text):
                texts.append(text)
            case ThinkingBlock(thinking=thinking):
                thoughts.append(thinking)
            case ToolUseBlock():
                calls.append(_call(block))
            case ImageBlock() | DocumentBlock():
                raise _not_text(block)
            case RedactedThinkingBlock() | ToolResultBlock():
                pass
    if not (texts or thoughts or calls):
        return
    message: dict[str, Any] = {"role": role, "content": [_part(text) for text in texts]}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    yield message


def _call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block.name, "arguments": block.input}
    return {"id": block.id, "type": "function", "function": function}


def _parts(content: str | list[TextBlock | ImageBlock | DocumentBlock] | None) -> Any:
    if not isinstance(content, list):
        return content or ""
    parts = []
    for block in content:
        if not isinstance(block, TextBlock):
            raise _not_text(block)
        parts.append(_part(block.text))
    return parts


def _part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _system(system: str | list[TextBlock]) -> str:
    if isinstance(system, str):
        return system
    return "\n\n".join(block.text for block in system)


def _not_text(block: ImageBlock | DocumentBlock) -> ServeError:
    kind = "an image" if isinstance(block, ImageBlock) else "a document"
    message = f"messages: the model reads text only, not {kind}"
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, message, param="messages")

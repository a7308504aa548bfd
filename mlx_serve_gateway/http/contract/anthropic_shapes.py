"""What /v1/messages answers, as types; for the contract alone, as in ``openai_shapes``."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from mlx_serve_gateway.http.contract.refusals import AnthropicFacts

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextSaid(msgspec.Struct, kw_only=True, tag="text"):
    text: str


class ThinkingSaid(msgspec.Struct, kw_only=True, tag="thinking"):
    thinking: str
    signature: str


class ToolUse(msgspec.Struct, kw_only=True, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


SaidBlock = TextSaid | ThinkingSaid | ToolUse


class MessageUsage(msgspec.Struct, kw_only=True):
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | UnsetType = UNSET
    cache_read_input_tokens: int | UnsetType = UNSET


class MessageEnding(msgspec.Struct, kw_only=True):
    stop_reason: StopReason | None
    stop_sequence: str | None


class AnthropicMessage(MessageEnding, kw_only=True):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[SaidBlock]
    usage: MessageUsage


class TokenCount(msgspec.Struct):
    input_tokens: int


# --- events --------------------------------------------------------------------------------------


class MessageStart(msgspec.Struct, tag="message_start"):
    message: AnthropicMessage


class Ping(msgspec.Struct, tag="ping"):
    pass


class BlockStart(msgspec.Struct, kw_only=True, tag="content_block_start"):
    index: int
    content_block: SaidBlock


class TextPieceDelta(msgspec.Struct, tag="text_delta"):
    text: str


class ThinkingDelta(msgspec.Struct, tag="thinking_delta"):
    thinking: str


class SignatureDelta(msgspec.Struct, tag="signature_delta"):
    signature: str


class InputDelta(msgspec.Struct, tag="input_json_delta"):
    partial_json: str


class BlockDelta(msgspec.Struct, kw_only=True, tag="content_block_delta"):
    index: int
    delta: TextPieceDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockStop(msgspec.Struct, tag="content_block_stop"):
    index: int


class MessageDelta(msgspec.Struct, kw_only=True, tag="message_delta"):
    delta: MessageEnding
    usage: MessageUsage


class MessageStop(msgspec.Struct, tag="message_stop"):
    pass


class StreamError(msgspec.Struct, tag="error"):
    error: AnthropicFacts


MessageEvent = (
    MessageStart
    | Ping
    | BlockStart
    | BlockDelta
    | BlockStop
    | MessageDelta
    | MessageStop
    | StreamError
)

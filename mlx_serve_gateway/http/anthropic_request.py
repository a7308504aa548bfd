"""What Anthropic's clients send to /v1/messages, as types.

Invariants: what a local model cannot do (look at pictures, search the web) is refused by name;
fields about billing and caching are read over.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_serve_gateway.http.conversation_bounds import Messages, ToolList
from mlx_serve_gateway.http.durations import KeepAlive
from mlx_serve_gateway.http.sampling_request import Count, Share

_MOST_STOPS = 64


class TextBlock(msgspec.Struct, tag="text"):
    text: str


class ThinkingBlock(msgspec.Struct, tag="thinking"):
    thinking: str


class RedactedThinkingBlock(msgspec.Struct, tag="redacted_thinking"):
    """Thoughts that only their author could read."""


class ToolUseBlock(msgspec.Struct, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ImageBlock(msgspec.Struct, tag="image"):
    pass


class DocumentBlock(msgspec.Struct, tag="document"):
    pass


class ToolResultBlock(msgspec.Struct, tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None


Block = (
    TextBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | ImageBlock
    | DocumentBlock
)


class Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(msgspec.Struct, kw_only=True):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class ToolChoice(msgspec.Struct, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """``budget_tokens`` is no promise that a local model could keep."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]


class OutputFormat(msgspec.Struct, kw_only=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class CountRequest(msgspec.Struct, kw_only=True):
    """What counting the tokens of a request needs of it."""

    model: str
    messages: Messages[Message]
    system: str | list[TextBlock] | None = None
    tools: ToolList[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(CountRequest, kw_only=True):
    max_tokens: Count
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=_MOST_STOPS)] | None = None
    stream: bool | None = None
    keep_alive: KeepAlive = None

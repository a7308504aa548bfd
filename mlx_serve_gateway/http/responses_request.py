"""What OpenAI's clients send to /v1/responses: the part that needs no memory of earlier answers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_serve_common.chat import Conversation, Sampling
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.http.chat_abilities import require_tools
from mlx_serve_gateway.http.chat_messages import read_messages
from mlx_serve_gateway.http.chat_tools import Choice, choose_tools, read_tools
from mlx_serve_gateway.http.conversation_bounds import Messages, ToolList
from mlx_serve_gateway.http.durations import KeepAlive
from mlx_serve_gateway.http.reasoning import Effort, reasoning
from mlx_serve_gateway.http.response_format import schema_of
from mlx_serve_gateway.http.responses_input import in_messages_shape
from mlx_serve_gateway.http.sampling_request import (
    MOST_LOGPROBS,
    Count,
    Share,
    Temperature,
    refuse,
    unsupported,
)

_LOGPROBS = "message.output_text.logprobs"
_NOT_DONE: Mapping[str, str] = {
    "previous_response_id": "nothing is stored; send the earlier items as input",
    "conversation": "nothing is stored; send the earlier items as input",
    "prompt": "nothing is stored; send its text",
    "background": "stream the answer instead",
}


class TextWish(msgspec.Struct, kw_only=True):
    format: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningWish(msgspec.Struct, kw_only=True):
    effort: Effort | None = None
    summary: str | None = None


class ResponsesRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    input: str | Messages[Any]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    tools: ToolList[dict[str, Any]] | None = None
    tool_choice: Choice = None
    parallel_tool_calls: bool | None = None
    text: TextWish | None = None
    reasoning: ReasoningWish | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    metadata: dict[str, Any] | None = None
    stream: bool | None = None
    keep_alive: KeepAlive = None
    # what is not done
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    background: Any = None

    @property
    def is_likely(self) -> bool:
        return bool(self.top_logprobs) or _LOGPROBS in (self.include or [])

    def sampling(self) -> Sampling:
        refuse(self, _NOT_DONE)
        text = self.text or TextWish()
        if text.verbosity not in (None, "medium"):
            raise unsupported("text", "ask for its verbosity in a message")
        return Sampling(
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_logprobs=(self.top_logprobs or 0) if self.is_likely else None,
            json_schema=schema_of(text.format, "text"),
        )

    def as_conversation(self, model: InstalledModel) -> Conversation:
        tools = choose_tools(read_tools(list(map(_nested, self.tools or []))), self.tool_choice)
        if tools.offered:
            require_tools(model)
        wish = self.reasoning or ReasoningWish()
        thinking, effort = reasoning(model, wish.effort, param="reasoning")
        return Conversation(
            self._messages(),
            tools=tools.offered,
            forced=tools.forced,
            is_parallel=self.parallel_tool_calls is not False,
            thinking=thinking,
            effort=effort,
        )

    def _messages(self) -> list[dict[str, Any]]:
        shaped = in_messages_shape(self.instructions, self.input)
        try:
            return read_messages(shaped)
        except ServeError as error:
            raise ServeError(error.code, error.message, param="input") from None


def _nested(tool: dict[str, Any]) -> dict[str, Any]:
    """Here a function's facts stand beside its type."""
    if tool.get("type") != "function" or "function" in tool:
        return tool
    return {
        "type": "function",
        "function": {
            name: value for name, value in tool.items() if name != "type" and value is not None
        },
    }

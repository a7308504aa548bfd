"""What /v1/responses answers, as types; for the contract alone, as in ``openai_shapes``."""

from typing import Any, Literal

import msgspec

from mlx_serve_gateway.http.contract.openai_shapes import SaidToken
from mlx_serve_gateway.http.responses_input import InputItem
from mlx_serve_gateway.http.responses_request import ResponsesRequest

_Status = Literal["in_progress", "completed", "incomplete"]


class ResponsesBody(ResponsesRequest, kw_only=True):
    input: str | list[InputItem]


class OutputText(msgspec.Struct, kw_only=True, tag="output_text"):
    text: str
    annotations: list[Any]
    logprobs: list[SaidToken]


class SummaryText(msgspec.Struct, kw_only=True, tag="summary_text"):
    text: str


class OutputMessage(msgspec.Struct, kw_only=True, tag="message"):
    id: str
    status: _Status
    role: Literal["assistant"]
    content: list[OutputText]


class OutputReasoning(msgspec.Struct, kw_only=True, tag="reasoning"):
    id: str
    status: _Status
    summary: list[SummaryText]


class OutputCall(msgspec.Struct, kw_only=True, tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: _Status


OutputItem = OutputMessage | OutputReasoning | OutputCall


class CachedTokens(msgspec.Struct, kw_only=True):
    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(msgspec.Struct, kw_only=True):
    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, kw_only=True):
    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseFailure(msgspec.Struct, kw_only=True):
    code: str
    message: str


class Incomplete(msgspec.Struct, kw_only=True):
    reason: Literal["max_output_tokens"]


class ReasoningTold(msgspec.Struct, kw_only=True):
    effort: str | None
    summary: None


class TextFormat(msgspec.Struct, kw_only=True):
    format: dict[str, Any]


class ModelResponse(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["response"]
    created_at: int
    status: _Status | Literal["failed"]
    background: Literal[False]
    error: ResponseFailure | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, Any]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: ReasoningTold
    store: Literal[False]
    temperature: float | None
    text: TextFormat
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage | None

"""The answers of a chat model at OpenAI's older endpoints, as types.

For the contract alone: the answers are put together while they are said. Tests hold them against
these types.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mlx_serve_common.chat import FinishReason
from mlx_serve_gateway.http.chat_messages import ChatMessage, Role
from mlx_serve_gateway.http.chat_request import ChatRequest
from mlx_serve_gateway.http.chat_tools import ChatTool
from mlx_serve_gateway.http.completions import CompletionRequest


class SentMessage(ChatMessage, kw_only=True):
    role: Role


class ChatBody(ChatRequest, kw_only=True):
    messages: Annotated[list[SentMessage], Meta(min_length=1)]
    tools: list[ChatTool] | None = None


class CompletionBody(CompletionRequest, kw_only=True):
    """`prompt`: a text, texts, token ids, or lists of them; no mixture."""

    prompt: str | list[str | int | list[int]]


class PromptTokens(msgspec.Struct):
    cached_tokens: int


class CompletionTokens(msgspec.Struct):
    reasoning_tokens: int


class Usage(msgspec.Struct, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    completion_tokens_details: CompletionTokens


class LikelyToken(msgspec.Struct, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]


class SaidToken(LikelyToken, kw_only=True):
    top_logprobs: list[LikelyToken]


class Likelihoods(msgspec.Struct, kw_only=True):
    content: list[SaidToken]
    refusal: None


class FunctionCall(msgspec.Struct, kw_only=True):
    name: str
    arguments: str


class ToolCall(msgspec.Struct, kw_only=True):
    id: str
    type: Literal["function"]
    function: FunctionCall


class ToolCallPiece(ToolCall, kw_only=True):
    index: int


class AnsweredMessage(msgspec.Struct, kw_only=True):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, kw_only=True):
    index: int
    message: AnsweredMessage
    logprobs: Likelihoods | None
    finish_reason: FinishReason


class _Heading(msgspec.Struct, kw_only=True):
    id: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(_Heading, kw_only=True):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage


class MessagePiece(msgspec.Struct, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallPiece] | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    index: int
    delta: MessagePiece
    logprobs: Likelihoods | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(_Heading, kw_only=True):
    """`data:` of each event; the last event is `[DONE]`, or holds an error."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType = UNSET


class TextLikelihoods(msgspec.Struct, kw_only=True):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(msgspec.Struct, kw_only=True):
    index: int
    text: str
    logprobs: TextLikelihoods | None
    finish_reason: FinishReason


class Completion(_Heading, kw_only=True):
    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: Usage


class TextPiece(msgspec.Struct, kw_only=True):
    index: int
    text: str
    logprobs: TextLikelihoods | None
    finish_reason: FinishReason | None


class CompletionChunk(_Heading, kw_only=True):
    """`data:` of each event; the last event is `[DONE]`, or holds an error."""

    object: Literal["text_completion"]
    choices: list[TextPiece]
    usage: Usage | UnsetType = UNSET


class InputTokens(msgspec.Struct, kw_only=True):
    object: Literal["response.input_tokens"]
    input_tokens: int

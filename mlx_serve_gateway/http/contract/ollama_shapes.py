"""What is answered under /api, as types; for the contract alone, as in ``openai_shapes``."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from mlx_serve_common.models import Quality
from mlx_serve_gateway.http.contract.openai_shapes import LikelyToken


class OllamaToken(LikelyToken, kw_only=True):
    top_logprobs: list[LikelyToken] | UnsetType = UNSET


class NumberedFunction(msgspec.Struct, kw_only=True):
    index: int
    name: str
    arguments: dict[str, Any]


class OllamaToolCall(msgspec.Struct, kw_only=True):
    id: str
    function: NumberedFunction


class SaidMessage(msgspec.Struct, kw_only=True):
    role: Literal["assistant"]
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaToolCall] | UnsetType = UNSET


class _Line(msgspec.Struct, kw_only=True):
    model: str
    created_at: str
    done: bool
    logprobs: list[OllamaToken] | UnsetType = UNSET
    done_reason: Literal["stop", "length", "load", "unload"] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class ChatLine(_Line, kw_only=True):
    """The whole answer or a piece of it; the counts and durations come with `done`."""

    message: SaidMessage


class GenerateLine(_Line, kw_only=True):
    """The whole answer or a piece of it; the counts and durations come with `done`."""

    response: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaToolCall] | UnsetType = UNSET


class EmbedAnswer(msgspec.Struct, kw_only=True):
    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class EmbeddingsAnswer(msgspec.Struct):
    embedding: list[float]


class ProgressLine(msgspec.Struct, kw_only=True):
    """The last line has `success`, or is an error."""

    status: str
    digest: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    original_size: int | UnsetType | None = UNSET
    quantized_size: int | UnsetType | None = UNSET
    quality: Quality | UnsetType = UNSET

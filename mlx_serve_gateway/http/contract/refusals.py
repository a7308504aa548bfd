"""Why an endpoint may refuse, and what a refusal looks like under its path."""

from typing import Literal

import msgspec

from mlx_serve_common.errors import ErrorCode
from mlx_serve_gateway.http.contract.endpoint import Endpoint
from mlx_serve_gateway.http.errors import ErrorFamily
from mlx_serve_gateway.http.guard import PROBES

_ALWAYS = frozenset(
    {
        ErrorCode.HEADERS_TOO_LARGE,
        ErrorCode.HOST_NOT_ALLOWED,
        ErrorCode.INTERNAL_ERROR,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.ORIGIN_NOT_ALLOWED,
        ErrorCode.URL_TOO_LONG,
    }
)
_OF_A_BODY = frozenset(
    {
        ErrorCode.INVALID_JSON,
        ErrorCode.REQUEST_TIMEOUT,
        ErrorCode.REQUEST_TOO_LARGE,
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    }
)
_OF_THE_OWNERS = frozenset(
    {
        ErrorCode.CONTROL_PLANE_LOCAL_ONLY,
        ErrorCode.CONTROL_PLANE_OFF,
        ErrorCode.INVALID_ADMIN_KEY,
    }
)

# The groups that endpoints name.

UNKNOWN_MODEL = frozenset({ErrorCode.MODEL_NOT_FOUND})
HUB = frozenset(
    {
        ErrorCode.ACCESS_DENIED,
        ErrorCode.INSUFFICIENT_STORAGE,
        ErrorCode.INVALID_MODEL,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.PULL_IN_PROGRESS,
        ErrorCode.UNSAFE_MODEL,
        ErrorCode.UPSTREAM_ERROR,
    }
)
LOADING = UNKNOWN_MODEL | {
    ErrorCode.INFERENCE_TIMEOUT,
    ErrorCode.INSUFFICIENT_MEMORY,
    ErrorCode.INVALID_MODEL,
    ErrorCode.MODEL_BUSY,
    ErrorCode.MODEL_LOADING,
    ErrorCode.MODEL_UNAVAILABLE,
    ErrorCode.QUEUE_FULL,
    ErrorCode.WORKER_CRASHED,
}
INFERENCE = (
    LOADING
    | HUB
    | {
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        ErrorCode.EMPTY_INPUT,
        ErrorCode.INFERENCE_FAILED,
        ErrorCode.INVALID_MODEL_OUTPUT,
        ErrorCode.MODEL_TYPE_MISMATCH,
        ErrorCode.REQUEST_QUARANTINED,
        ErrorCode.TOO_MANY_INPUTS,
        ErrorCode.UNSUPPORTED_PARAMETER,
    }
)
"""With the download of a model that is not installed."""
STORE = frozenset(
    {
        ErrorCode.ACCESS_DENIED,
        ErrorCode.INSUFFICIENT_STORAGE,
        ErrorCode.INVALID_MODEL,
        ErrorCode.MODEL_BUSY,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.MODEL_UNAVAILABLE,
    }
)


class OpenAIFacts(msgspec.Struct, kw_only=True):
    message: str
    type: str
    param: str | None
    code: ErrorCode


class OpenAIError(msgspec.Struct, kw_only=True):
    """`detail` is the message again, for Jina's clients."""

    error: OpenAIFacts
    detail: str


class OllamaError(msgspec.Struct, kw_only=True):
    """`error` is a text: Ollama's clients read nothing else."""

    error: str
    type: str
    code: ErrorCode


class AnthropicFacts(msgspec.Struct, kw_only=True):
    type: str
    message: str


class AnthropicError(msgspec.Struct, kw_only=True):
    type: Literal["error"]
    error: AnthropicFacts


ENVELOPES: dict[ErrorFamily, type[msgspec.Struct]] = {
    "openai": OpenAIError,
    "ollama": OllamaError,
    "anthropic": AnthropicError,
}


def codes_of(endpoint: Endpoint) -> frozenset[ErrorCode]:
    """All that the endpoint may answer in place of what was asked."""
    codes = endpoint.refusals | _ALWAYS
    if endpoint.paths[0] not in PROBES:
        codes |= {ErrorCode.QUEUE_FULL, ErrorCode.SHUTTING_DOWN}
    if any("{" in path for path in endpoint.paths):
        # What stands for a name in a path may be anything but a line break.
        codes |= {ErrorCode.UNKNOWN_URL}
    if endpoint.body is not None:
        codes |= _OF_A_BODY
    if endpoint.tier == "owner":
        codes |= _OF_THE_OWNERS
    return codes

"""From an error code to an HTTP answer: one table for the status, the path prefix for the body.

Invariants: a user's mistake is never 5xx; a deterministic 5xx tells clients not to retry; bodies
carry our words only.
"""

import math
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError

ErrorFamily = Literal["openai", "ollama", "anthropic"]

_CLIENT = "invalid_request_error"
_SERVER = "server_error"

# code: (status, OpenAI's type)
TABLE: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.INVALID_JSON: (400, _CLIENT),
    ErrorCode.INVALID_REQUEST: (400, _CLIENT),
    ErrorCode.EMPTY_INPUT: (400, _CLIENT),
    ErrorCode.TOO_MANY_INPUTS: (400, _CLIENT),
    ErrorCode.CONTEXT_LENGTH_EXCEEDED: (400, _CLIENT),
    ErrorCode.UNSUPPORTED_PARAMETER: (400, _CLIENT),
    ErrorCode.MODEL_TYPE_MISMATCH: (400, _CLIENT),
    ErrorCode.REQUEST_QUARANTINED: (400, _CLIENT),
    ErrorCode.UNSAFE_MODEL: (400, _CLIENT),
    ErrorCode.INVALID_ADMIN_KEY: (401, "authentication_error"),
    ErrorCode.ACCESS_DENIED: (403, "permission_error"),
    ErrorCode.HOST_NOT_ALLOWED: (403, "permission_error"),
    ErrorCode.ORIGIN_NOT_ALLOWED: (403, "permission_error"),
    ErrorCode.CONTROL_PLANE_LOCAL_ONLY: (403, "permission_error"),
    ErrorCode.CONTROL_PLANE_OFF: (403, "permission_error"),
    ErrorCode.MODEL_NOT_FOUND: (404, _CLIENT),
    ErrorCode.UNKNOWN_URL: (404, _CLIENT),
    ErrorCode.METHOD_NOT_ALLOWED: (405, _CLIENT),
    ErrorCode.REQUEST_TIMEOUT: (408, _CLIENT),
    # OpenAI's clients try again by themselves: only for what passes.
    ErrorCode.MODEL_BUSY: (409, _CLIENT),
    ErrorCode.PULL_IN_PROGRESS: (409, _CLIENT),
    ErrorCode.REQUEST_TOO_LARGE: (413, _CLIENT),
    ErrorCode.URL_TOO_LONG: (414, _CLIENT),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, _CLIENT),
    ErrorCode.QUEUE_FULL: (429, "rate_limit_error"),
    ErrorCode.HEADERS_TOO_LARGE: (431, _CLIENT),
    # Nobody reads this answer: the client has left. The number is nginx's, for the log.
    ErrorCode.CANCELLED: (499, _CLIENT),
    ErrorCode.WORKER_CRASHED: (500, _SERVER),
    ErrorCode.INFERENCE_FAILED: (500, _SERVER),
    ErrorCode.INVALID_MODEL_OUTPUT: (500, _SERVER),
    ErrorCode.INVALID_MODEL: (500, _SERVER),
    ErrorCode.INTERNAL_ERROR: (500, _SERVER),
    ErrorCode.UPSTREAM_ERROR: (502, _SERVER),
    ErrorCode.MODEL_LOADING: (503, _SERVER),
    ErrorCode.MODEL_UNAVAILABLE: (503, _SERVER),
    ErrorCode.INSUFFICIENT_MEMORY: (503, _SERVER),
    ErrorCode.SHUTTING_DOWN: (503, _SERVER),
    ErrorCode.INFERENCE_TIMEOUT: (504, _SERVER),
    ErrorCode.INSUFFICIENT_STORAGE: (507, _SERVER),
}

# The same request would fail the same way: without this header the OpenAI SDKs send it three times.
_NOT_WORTH_RETRYING = frozenset(
    {
        ErrorCode.WORKER_CRASHED,
        ErrorCode.INFERENCE_FAILED,
        ErrorCode.INVALID_MODEL_OUTPUT,
        ErrorCode.INVALID_MODEL,
        ErrorCode.INTERNAL_ERROR,
        ErrorCode.INSUFFICIENT_STORAGE,
    }
)
# Anthropic's types, by status; whatever is not here is `invalid_request_error` below 500.
_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_LONGEST_RETRY_AFTER_S = 120  # OpenAI's clients give up on a larger one


def error_response(
    error: ServeError, path: str, extra_headers: dict[str, str] | None = None
) -> Response:
    status, _ = TABLE[error.code]
    headers = dict(extra_headers or {})
    if error.retry_after_s is not None:
        seconds = min(max(1, math.ceil(error.retry_after_s)), _LONGEST_RETRY_AFTER_S)
        headers["retry-after"] = str(seconds)
    if error.code in _NOT_WORTH_RETRYING:
        headers["x-should-retry"] = "false"
    if error.code is ErrorCode.INVALID_ADMIN_KEY:
        headers["www-authenticate"] = "Bearer"
    if error.code is ErrorCode.SHUTTING_DOWN:
        headers["connection"] = "close"
    body = msgspec.json.encode(error_body(error, path))
    return Response(body, status, headers, media_type="application/json")


def error_family(path: str) -> ErrorFamily:
    """Whose clients read errors under this path."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "ollama" if path.startswith("/api/") else "openai"


def error_body(error: ServeError, path: str) -> dict[str, Any]:
    status, kind = TABLE[error.code]
    family = error_family(path)
    if family == "anthropic":
        told = {"type": _anthropic_type(status), "message": error.message}
        return {"type": "error", "error": told}
    if family == "ollama":
        # Ollama's clients need a string; the machine-readable part stands beside it.
        return {"error": error.message, "type": kind, "code": error.code}
    envelope = {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": error.code,
    }
    # Jina's clients ignore the status and raise whatever `detail` says.
    return {"error": envelope, "detail": error.message}


def _anthropic_type(status: int) -> str:
    return _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")

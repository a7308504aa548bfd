"""Everything that can go wrong, as one taxonomy of codes.

    ServeError
    ├── the client's mistake      invalid_json  invalid_request  empty_input  too_many_inputs
    │                             context_length_exceeded  unsupported_parameter
    │                             model_type_mismatch  request_quarantined  request_too_large
    │                             unsupported_media_type  model_not_found  unknown_url
    │                             method_not_allowed  request_timeout  access_denied
    ├── not now                   queue_full  model_loading  model_unavailable
    │                             insufficient_memory  shutting_down
    └── our fault                 worker_crashed  inference_timeout  inference_failed
                                  invalid_model_output  invalid_model  internal_error

A code decides the HTTP status (one table in ``mlx_serve_gateway.http.errors``). The message is
written for the person who sent the request: it never carries a path, a traceback or a library's
own text. ``cancelled`` stays inside: it settles an item whose caller has left.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    EMPTY_INPUT = "empty_input"
    TOO_MANY_INPUTS = "too_many_inputs"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    MODEL_TYPE_MISMATCH = "model_type_mismatch"
    REQUEST_QUARANTINED = "request_quarantined"
    REQUEST_TOO_LARGE = "request_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    MODEL_NOT_FOUND = "model_not_found"
    UNKNOWN_URL = "unknown_url"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    ACCESS_DENIED = "access_denied"
    QUEUE_FULL = "queue_full"
    MODEL_LOADING = "model_loading"
    MODEL_UNAVAILABLE = "model_unavailable"
    INSUFFICIENT_MEMORY = "insufficient_memory"
    SHUTTING_DOWN = "shutting_down"
    WORKER_CRASHED = "worker_crashed"
    INFERENCE_TIMEOUT = "inference_timeout"
    INFERENCE_FAILED = "inference_failed"
    INVALID_MODEL_OUTPUT = "invalid_model_output"
    INVALID_MODEL = "invalid_model"
    INTERNAL_ERROR = "internal_error"
    CANCELLED = "cancelled"


class ServeError(Exception):
    """A failure with a code, told in words that a client may read."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

"""Everything that can go wrong, as one taxonomy of codes.

    ServeError
    ├── the client's mistake      invalid_json  invalid_request  empty_input  too_many_inputs
    │                             context_length_exceeded  unsupported_parameter
    │                             model_type_mismatch  request_quarantined  request_too_large
    │                             headers_too_large  url_too_long
    │                             unsupported_media_type  model_not_found  unknown_url
    │                             method_not_allowed  request_timeout  access_denied
    │                             host_not_allowed  origin_not_allowed
    │                             control_plane_local_only  control_plane_off
    │                             invalid_admin_key  unsafe_model
    ├── not now                   queue_full  model_busy  model_loading  model_unavailable
    │                             insufficient_memory  insufficient_storage  pull_in_progress
    │                             shutting_down
    ├── the model hub's fault     upstream_error
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
    HEADERS_TOO_LARGE = "headers_too_large"
    URL_TOO_LONG = "url_too_long"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    MODEL_NOT_FOUND = "model_not_found"
    UNKNOWN_URL = "unknown_url"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    ACCESS_DENIED = "access_denied"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    CONTROL_PLANE_LOCAL_ONLY = "control_plane_local_only"
    CONTROL_PLANE_OFF = "control_plane_off"
    INVALID_ADMIN_KEY = "invalid_admin_key"
    UNSAFE_MODEL = "unsafe_model"
    QUEUE_FULL = "queue_full"
    MODEL_BUSY = "model_busy"
    PULL_IN_PROGRESS = "pull_in_progress"
    MODEL_LOADING = "model_loading"
    MODEL_UNAVAILABLE = "model_unavailable"
    INSUFFICIENT_MEMORY = "insufficient_memory"
    INSUFFICIENT_STORAGE = "insufficient_storage"
    SHUTTING_DOWN = "shutting_down"
    UPSTREAM_ERROR = "upstream_error"
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

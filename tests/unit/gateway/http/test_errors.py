"""Error codes to HTTP: every code has a row, every body its shape, every header its reason."""

import msgspec
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.errors import TABLE, error_response

V1, OLLAMA, ANTHROPIC = "/v1/embeddings", "/api/embed", "/v1/messages"
DETERMINISTIC = {
    ErrorCode.WORKER_CRASHED,
    ErrorCode.INFERENCE_FAILED,
    ErrorCode.INVALID_MODEL_OUTPUT,
    ErrorCode.INVALID_MODEL,
    ErrorCode.INTERNAL_ERROR,
    ErrorCode.INSUFFICIENT_STORAGE,
}
# As API.md and the reliability notes give them.
STATUS = {
    "invalid_json": 400,
    "invalid_request": 400,
    "empty_input": 400,
    "too_many_inputs": 400,
    "context_length_exceeded": 400,
    "unsupported_parameter": 400,
    "model_type_mismatch": 400,
    "request_quarantined": 400,
    "unsafe_model": 400,
    "invalid_admin_key": 401,
    "access_denied": 403,
    "host_not_allowed": 403,
    "origin_not_allowed": 403,
    "control_plane_local_only": 403,
    "control_plane_off": 403,
    "model_not_found": 404,
    "unknown_url": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "model_busy": 409,
    "pull_in_progress": 409,
    "request_too_large": 413,
    "url_too_long": 414,
    "unsupported_media_type": 415,
    "queue_full": 429,
    "headers_too_large": 431,
    "worker_crashed": 500,
    "inference_failed": 500,
    "invalid_model_output": 500,
    "invalid_model": 500,
    "internal_error": 500,
    "upstream_error": 502,
    "model_loading": 503,
    "model_unavailable": 503,
    "insufficient_memory": 503,
    "shutting_down": 503,
    "inference_timeout": 504,
    "insufficient_storage": 507,
}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_row(code: ErrorCode) -> None:
    assert code in TABLE


@pytest.mark.parametrize(("code", "status"), STATUS.items())
def test_statuses_are_those_of_the_contract(code: str, status: int) -> None:
    assert error_response(ServeError(ErrorCode(code), "told"), V1).status_code == status


@pytest.mark.parametrize("code", list(ErrorCode))
def test_openai_clients_get_an_object_and_a_detail(code: ErrorCode) -> None:
    response = error_response(ServeError(code, "told", param="input"), V1)
    body = msgspec.json.decode(response.body)

    assert set(body) == {"error", "detail"}
    assert body["detail"] == "told"
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["code"], body["error"]["param"]) == (code.value, "input")
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("code", list(ErrorCode))
def test_ollama_clients_get_a_string(code: ErrorCode) -> None:
    body = msgspec.json.decode(error_response(ServeError(code, "told"), OLLAMA).body)

    assert body["error"] == "told"
    assert (body["code"], isinstance(body["type"], str)) == (code.value, True)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_anthropic_clients_get_their_envelope(code: ErrorCode) -> None:
    response = error_response(ServeError(code, "told", param="input"), ANTHROPIC)
    body = msgspec.json.decode(response.body)

    assert body == {"type": "error", "error": {"type": body["error"]["type"], "message": "told"}}
    assert body["error"]["type"] == {
        401: "authentication_error", 403: "permission_error", 404: "not_found_error",
        413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 502: "api_error",
        503: "overloaded_error", 504: "timeout_error", 507: "api_error",
    }.get(response.status_code, "invalid_request_error")  # fmt: skip


def test_a_users_mistake_is_never_a_server_error() -> None:
    for code, (status, kind) in TABLE.items():
        assert (status >= 500) == (kind == "server_error"), code


@pytest.mark.parametrize("code", list(ErrorCode))
def test_only_what_would_fail_again_says_not_to_retry(code: ErrorCode) -> None:
    headers = error_response(ServeError(code, "told"), V1).headers
    assert (headers.get("x-should-retry") == "false") == (code in DETERMINISTIC)


@pytest.mark.parametrize(
    ("given", "told"),
    [(None, None), (0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (30.0, "30"), (999.0, "120")],
)
def test_retry_after_is_a_whole_number_that_clients_accept(
    given: float | None, told: str | None
) -> None:
    error = ServeError(ErrorCode.QUEUE_FULL, "told", retry_after_s=given)
    assert error_response(error, V1).headers.get("retry-after") == told


def test_a_server_that_stops_closes_the_connection() -> None:
    closing = error_response(ServeError(ErrorCode.SHUTTING_DOWN, "told"), V1)
    other = error_response(ServeError(ErrorCode.QUEUE_FULL, "told"), V1)

    assert closing.headers["connection"] == "close"
    assert "connection" not in other.headers


def test_headers_of_the_router_are_kept() -> None:
    error = ServeError(ErrorCode.METHOD_NOT_ALLOWED, "told")
    assert error_response(error, V1, {"Allow": "POST"}).headers["allow"] == "POST"

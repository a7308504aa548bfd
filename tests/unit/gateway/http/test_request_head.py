"""What the head of a request has to be."""

from typing import Any

import pytest

from mlx_serve_gateway.http.request_head import MAX_URL_BYTES, refusal
from tests.unit.gateway.http.asgi import HOST, http_scope

MOST = 1000
CHUNKED = (b"transfer-encoding", b"chunked")
LENGTH = (b"content-length", b"2")


def code(**changed: Any) -> str | None:
    error = refusal({**http_scope(), **changed}, MOST)
    return None if error is None else error.code.value


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_ordinary_request_is_fine(version: str) -> None:
    assert code(http_version=version) is None
    assert code(http_version=version, headers=[HOST, LENGTH]) is None


def test_a_url_has_a_longest_form() -> None:
    path = b"/" + b"x" * (MAX_URL_BYTES - 11)
    assert code(raw_path=path, query_string=b"y" * 10) is None
    assert code(raw_path=path, query_string=b"y" * 11) == "url_too_long"


def test_headers_have_a_number_and_a_size() -> None:
    assert code(headers=[(b"a", b"")] * 100) is None
    assert code(headers=[(b"a", b"")] * 101) == "headers_too_large"
    assert code(headers=[(b"a", b"x" * 999)]) is None
    assert code(headers=[(b"a", b"x" * 1000)]) == "headers_too_large"


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "2", "3"])
def test_other_versions_are_refused(version: str) -> None:
    assert code(http_version=version) == "invalid_request"


@pytest.mark.parametrize("target", [b"*", b"http://localhost/health", b"localhost:80", b""])
def test_a_target_is_a_path(target: bytes) -> None:
    assert code(raw_path=target) == "invalid_request"


def test_a_request_has_one_end() -> None:
    assert code(headers=[HOST, CHUNKED]) is None
    assert code(headers=[HOST, CHUNKED, LENGTH]) == "invalid_request"

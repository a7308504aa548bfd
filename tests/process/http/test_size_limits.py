"""How large a request may be, and what becomes of what nobody wants to read."""

import pytest

from tests.process.clients import POST, RawClient
from tests.process.gateways import Gateway
from tests.process.http.conftest import CONFIG

pytestmark = pytest.mark.process

MAX_BODY = CONFIG.limits.max_body_bytes
CONTROL_BYTES = 65_536


def hear_all(gateway: Gateway, *sent: bytes) -> bytes:
    client = RawClient(gateway)
    client.send(*sent)
    heard = client.hear()
    client.leave()
    return heard


# --- heads ---------------------------------------------------------------------------------------


def test_an_address_within_its_limit_and_beyond(gateway: Gateway) -> None:
    assert gateway.ask("GET", "/health?" + "x" * 8185).status == 200
    for path in ("/health?" + "x" * 8186, "/" + "x" * 8192):
        beyond = gateway.ask("GET", path)
        assert (beyond.status, beyond.code) == (414, "url_too_long")


def test_headers_within_their_number_and_beyond(gateway: Gateway) -> None:
    # http.client sends two of its own.
    headers = {f"x-{number}": "a" for number in range(98)}
    assert gateway.ask("GET", "/health", headers=headers).status == 200
    beyond = gateway.ask("GET", "/health", headers=headers | {"x-more": "a"})
    assert (beyond.status, beyond.code) == (431, "headers_too_large")


def test_headers_within_their_size_and_beyond(gateway: Gateway) -> None:
    most = CONFIG.limits.max_header_bytes
    assert gateway.ask("GET", "/health", headers={"x": "a" * (most - 200)}).status == 200
    beyond = gateway.ask("GET", "/health", headers={"x": "a" * most})
    assert (beyond.status, beyond.code) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "head", [b"GET /" + b"x" * 300_000, b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000]
)
def test_a_head_without_an_end_is_not_kept(gateway: Gateway, head: bytes) -> None:
    heard = hear_all(gateway, head)

    assert heard.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"headers_too_large"' in heard


# --- bodies --------------------------------------------------------------------------------------

EXPECT = b"Expect: 100-continue\r\nConnection: close\r\n"


def test_who_asks_first_is_invited_when_somebody_reads(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(POST, EXPECT, b"Content-Length: 25\r\n\r\n")
    assert client.hear_some() == b"HTTP/1.1 100 \r\n\r\n"
    client.send(b'{"model":"m","input":"a"}')
    assert client.hear().startswith(b"HTTP/1.1 200 ")
    client.leave()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (POST + b"Content-Length: 1000000000000\r\n", 413),
        (POST + b"Content-Length: 10\r\nOrigin: https://evil.example\r\n", 403),
        (POST + b"Content-Length: 10\r\nContent-Encoding: gzip\r\n", 415),
        (b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n", 404),
        (b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n", 405),
    ],
)
def test_nobody_is_invited_to_be_refused(gateway: Gateway, head: bytes, status: int) -> None:
    heard = hear_all(gateway, head, EXPECT, b"\r\n")
    assert heard.startswith(b"HTTP/1.1 %d " % status)


def test_who_sends_too_much_hears_that_it_does(gateway: Gateway) -> None:
    answer = gateway.post(b"x" * 20_000_000)
    assert (answer.status, answer.code) == (413, "request_too_large")


def test_many_small_chunks_that_nobody_reads_are_forgotten(gateway: Gateway) -> None:
    """More of them than Hypercorn keeps for the application, which has answered by then."""
    chunks = b"1\r\na\r\n" * 1000
    for path in (b"/nope", b"/health", b"/admin/events"):
        head = (
            b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        heard = hear_all(gateway, head, chunks, b"0\r\n\r\n")
        assert heard.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    # That none of them is still there is seen by the fixture.


def test_a_body_that_a_stream_does_not_read_is_forgotten(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(
        b"GET /admin/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\na\r\n" * 1000,
    )
    assert client.hear_some().startswith(b"HTTP/1.1 200 ")
    client.leave()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/show"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/quantize"),
        ("POST", "/admin/load"),
        ("POST", "/admin/pin"),
    ],
)
def test_who_manages_models_has_little_to_say(gateway: Gateway, method: str, path: str) -> None:
    body = b'{"model":"nope","source":"nope","destination":"x"}'
    within = gateway.ask(method, path, body + b" " * (CONTROL_BYTES - len(body)))
    assert within.status != 413
    beyond = gateway.ask(method, path, body + b" " * (CONTROL_BYTES + 1 - len(body)))
    assert beyond.status == 413

"""Where a request ends: one reading of it, or none; and nothing that is not HTTP/1.1."""

import re
from time import monotonic

import psutil
import pytest

from tests.process.clients import POST, RawClient
from tests.process.gateways import Gateway
from tests.process.http.conftest import CONFIG
from tests.waiting import until

pytestmark = pytest.mark.process

BODY = b'{"model":"m","input":"a"}'
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def hear_all(gateway: Gateway, *sent: bytes) -> bytes:
    client = RawClient(gateway)
    client.send(*sent)
    heard = client.hear()
    client.leave()
    return heard


def answers_in(heard: bytes) -> int:
    return len(re.findall(rb"HTTP/1.1 [0-9]{3} ", heard))


REFUSED = {
    "a length and chunks": POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 4\r\n\r\n",
    "two lengths in one": POST + b"Content-Length: 0, 4\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +0\r\n\r\n",
    "a length below zero": POST + b"Content-Length: -1\r\n\r\n",
    "a length in hex": POST + b"Content-Length: 0x0\r\n\r\n",
    "a length in words": POST + b"Content-Length: \xd9\xa0\r\n\r\n",
    "chunks, then something": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "something, then chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
    "a size with a sign": POST + CHUNKED + b"\r\n+1\r\na\r\n0\r\n\r\n",
    "a size below zero": POST + CHUNKED + b"\r\n-1\r\na\r\n0\r\n\r\n",
    "a size with a prefix": POST + CHUNKED + b"\r\n0x1\r\na\r\n0\r\n\r\n",
    "no size": POST + CHUNKED + b"\r\n\r\na\r\n0\r\n\r\n",
    "a size of 100 digits": POST + CHUNKED + b"\r\n" + b"0" * 100 + b"\r\n\r\n",
    "more than the chunk": POST + CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n",
    "lines that end in LF": POST.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    "one line that ends in LF": POST + b"X: a\nContent-Length: 0\r\n\r\n",
    "a lone CR": POST + b"X: a\rContent-Length: 0\r\n\r\n",
    "a NUL": POST + b"X: a\0b\r\n\r\n",
    "no line": b"\r\n\r\n\r\n",
    "a space in the target": b"GET /health /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a letter beyond ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/1.2": b"GET /health HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "HTTP/2.0": b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another server's address": b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "all of the server": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100ba010000b60303") + b"a" * 50 + b"\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(gateway: Gateway, sent: bytes) -> None:
    heard = hear_all(gateway, sent, SMUGGLED)

    assert heard.startswith(b"HTTP/1.1 400 "), heard
    assert answers_in(heard) == 1
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"content-type: application/json" in head
    assert b"x-content-type-options: nosniff" in head
    assert b'"code":"invalid_request"' in body
    assert b"h11" not in body


@pytest.mark.parametrize("first", [BODY, b"{"])
def test_a_request_that_follows_before_its_turn_is_not_answered(
    gateway: Gateway, first: bytes
) -> None:
    heard = hear_all(gateway, POST, b"Content-Length: %d\r\n\r\n" % len(first), first, SMUGGLED)

    assert answers_in(heard) == 1
    assert b"connection: close\r\n" in heard


def test_who_asks_again_before_the_answer_and_leaves_is_noticed(gateway: Gateway) -> None:
    left = gateway.log().count(" 499")
    client = RawClient(gateway)
    client.post(b'{"model":"m","input":"__sleep:0.5__"}')
    client.send(SMUGGLED * 1000)
    client.leave()

    until(lambda: gateway.log().count(" 499") == left + 1)


def test_what_is_sent_ahead_is_not_kept(gateway: Gateway) -> None:
    memory = psutil.Process(gateway.pid).memory_info
    before = memory().rss
    client = RawClient(gateway)
    client.post(b'{"model":"m","input":"__sleep:1__"}')
    client.send(SMUGGLED * 500_000)
    grown = memory().rss - before
    client.leave()

    assert grown < 4 << 20


def test_who_asks_again_during_a_stream_hears_it_to_its_end_and_no_more(gateway: Gateway) -> None:
    body = b'{"model":"chat","stream":true,"prompt":"__words:20__"}'
    client = RawClient(gateway)
    client.send(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n",
        b"Content-Length: %d\r\n\r\n" % len(body),
        body,
    )
    heard = client.hear_some()
    client.send(SMUGGLED)
    started = monotonic()
    heard += client.hear()
    took_s = monotonic() - started
    client.leave()

    assert answers_in(heard) == 1
    assert heard.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert took_s < CONFIG.limits.idle_timeout


def test_one_after_the_other_is_how_it_is_done(gateway: Gateway) -> None:
    client = RawClient(gateway)
    for _ in range(5):
        client.post(BODY)
        assert client.hear_answer().startswith(b"HTTP/1.1 200 ")
    client.leave()


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    ],
    ids=["websocket", "h2c", "tls"],
)
def test_no_other_protocol_is_spoken(gateway: Gateway, upgrade: bytes) -> None:
    client = RawClient(gateway)
    for _ in range(2):
        client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", upgrade, b"\r\n")
        assert client.hear_answer().startswith(b"HTTP/1.1 200 ")
    client.leave()


def test_a_websocket_of_a_page_is_judged_as_a_request(gateway: Gateway) -> None:
    heard = hear_all(
        gateway,
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n",
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n",
    )
    assert heard.startswith(b"HTTP/1.1 403 ")


def test_old_clients_are_answered(gateway: Gateway) -> None:
    heard = hear_all(gateway, b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in heard


@pytest.mark.parametrize("method", ["TRACE", "PATCH", "PROPFIND", "X" * 1000])
def test_a_method_that_nothing_knows(gateway: Gateway, method: str) -> None:
    known, unknown = gateway.ask(method, "/health"), gateway.ask(method, "/nope")

    assert (known.status, known.code) == (405, "method_not_allowed")
    assert (unknown.status, unknown.code) == (404, "unknown_url")


@pytest.mark.parametrize(
    "path", ["//health", "/health//", "/%2e%2e/health", "/../health", "/health%00", "/%68ealth/x"]
)
def test_a_path_is_taken_by_the_letter(gateway: Gateway, path: str) -> None:
    assert gateway.ask("GET", path).code == "unknown_url"

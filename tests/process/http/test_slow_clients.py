"""Clients that take their time: what may be slow, what may not, and when it ends."""

from contextlib import suppress
from threading import Thread
from time import monotonic, sleep

import pytest

from mlx_serve_gateway.connections.connection import LINGER_S
from tests.process.clients import POST, RawClient
from tests.process.gateways import Gateway
from tests.process.http.conftest import CONFIG, assert_healthy, connections
from tests.waiting import until

pytestmark = pytest.mark.process

LIMITS = CONFIG.limits
LATE_S = 0.5
"""How much later than due an end may come."""


def trickle(client: RawClient, every_s: float = 0.02) -> None:
    """Send a byte and another one, until nobody listens any more."""
    with suppress(OSError):
        while True:
            client.send(b"a")
            sleep(every_s)


def ends_after(client: RawClient, *, trickles: bool = False) -> tuple[bytes, float]:
    """What the client hears until its connection ends, and how long that took."""
    started = monotonic()
    sending = Thread(target=trickle, args=[client])
    if trickles:
        sending.start()
    try:
        return client.hear(), monotonic() - started
    finally:
        client.leave()
        if trickles:
            sending.join()


@pytest.mark.parametrize("trickles", [False, True])
@pytest.mark.parametrize("head", [b"P", POST, POST + b"Content-Length: 2\r\n"])
def test_a_head_has_to_arrive_in_time(gateway: Gateway, head: bytes, trickles: bool) -> None:
    client = RawClient(gateway)
    client.send(head + b"X: ")
    heard, took_s = ends_after(client, trickles=trickles)

    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in heard
    assert b"connection: close\r\n" in heard
    assert LIMITS.header_timeout - 0.05 < took_s < LIMITS.header_timeout + LATE_S


def test_a_second_head_has_to_arrive_in_time_too(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.hear_answer()
    client.send(b"GET /hea")
    heard, took_s = ends_after(client)

    assert heard.startswith(b"HTTP/1.1 408 ")
    assert took_s < LIMITS.header_timeout + LATE_S


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 90000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
def test_a_body_has_to_arrive_in_time(gateway: Gateway, framing: bytes) -> None:
    client = RawClient(gateway)
    client.send(POST + framing)
    heard, took_s = ends_after(client)

    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in heard
    assert b"connection: close\r\n" in heard
    # It is slower than anybody's line: not waited for to the end of its time.
    assert LIMITS.body_timeout / 3 - 0.05 < took_s < LIMITS.body_timeout / 3 + LATE_S


def test_a_body_that_trickles_is_not_heard_to_its_end(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(POST + b"Content-Length: 90000\r\n\r\n")
    heard, took_s = ends_after(client, trickles=True)

    assert heard.startswith(b"HTTP/1.1 408 ")
    assert took_s < LIMITS.body_timeout / 3 + LATE_S


def test_a_body_that_flows_has_all_the_time_there_is(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(POST + b"Connection: close\r\nContent-Length: 25\r\n\r\n", b'{"model":"m",')
    # Three quarters of what a trickle gets.
    sleep(LIMITS.body_timeout / 4)
    client.send(b'"input":"a"}')
    assert client.hear().startswith(b"HTTP/1.1 200 ")
    client.leave()


def test_a_connection_that_is_idle_is_closed_without_a_word(gateway: Gateway) -> None:
    silent, kept = RawClient(gateway), RawClient(gateway)
    kept.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    kept.hear_answer()

    for client in (silent, kept):
        heard, took_s = ends_after(client)
        assert heard == b""
        assert took_s < LIMITS.idle_timeout + LATE_S


def test_who_waits_for_an_answer_is_not_idle(gateway: Gateway) -> None:
    answer = gateway.embed("m", f"__sleep:{LIMITS.idle_timeout * 1.3}__")
    assert answer.status == 200


def test_who_listens_to_a_stream_is_not_idle(gateway: Gateway) -> None:
    body = b'{"model":"chat","stream":true,"messages":[{"role":"user","content":"__words:150__"}]}'
    answer = gateway.ask("POST", "/v1/chat/completions", body)

    assert answer.took_s > LIMITS.idle_timeout
    assert answer.body.rstrip().endswith(b"data: [DONE]")


def test_who_does_not_read_its_answer_is_cut_off(gateway: Gateway) -> None:
    client = RawClient(gateway, receive_buffer=4096)
    # More than the system takes for a client that does not read.
    body = b'{"model":"fast","stream":true,"prompt":"__words:200000__","max_tokens":1000000}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    client.send(head, b"Content-Length: %d\r\n\r\n" % len(body), body)
    until(lambda: connections(gateway) == 1)
    until(lambda: connections(gateway) == 0)
    client.leave()


def test_who_does_not_go_after_its_last_answer_is_let_go(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    client.hear()
    until(lambda: connections(gateway) == 0, LINGER_S + LATE_S)
    client.leave()


def test_two_hundred_slow_clients_harm_nobody(gateway: Gateway) -> None:
    clients = [RawClient(gateway) for _ in range(200)]
    for number, client in enumerate(clients):
        client.send(POST + (b"Content-Length: 9\r\n\r\n{" if number % 2 else b"X: "))
    started = monotonic()
    assert_healthy(gateway)
    for client in clients:
        assert client.hear().startswith(b"HTTP/1.1 408 ")
        client.leave()

    assert monotonic() - started < 5

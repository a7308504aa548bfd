"""Whatever listens on the port, the command gets a report or gives up in time."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic

import pytest

from mlx_serve_gateway.cli.gateway_client import health, health_detail, read_report
from mlx_serve_gateway.cli.gateway_connection import NoAnswer

pytestmark = pytest.mark.process

REPORT = b'{"status":"ok","instance":"i","pid":7,"workers":[{"model":"m","later":1}],"new":[]}'
Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that treats each connection as told; gives its URL."""
    with ExitStack() as stack:

        def start(treat: Callable[[socket.socket], None]) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=accept, args=(listener, treat))
            thread.start()
            stack.callback(thread.join)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


def accept(listener: socket.socket, treat: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                treat(connection)
            except OSError:
                continue


def answers(status: int, body: bytes) -> Callable[[socket.socket], None]:
    def treat(connection: socket.socket) -> None:
        connection.recv(65536)
        reply(connection, status, body)

    return treat


def reply(connection: socket.socket, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def test_a_report_of_another_version_is_read(serve: Serve) -> None:
    url = serve(answers(200, REPORT))
    report = read_report(health_detail(url))
    assert report.workers is not None
    assert (report.instance, report.pid, report.workers[0].model) == ("i", 7, "m")
    assert health(serve(answers(503, b'{"status":"draining","instance":"i"}'))).status == "draining"


def test_details_that_are_kept_back(serve: Serve) -> None:
    def treat(connection: socket.socket) -> None:
        asked = connection.recv(65536)
        if b"/detail" in asked:
            reply(connection, 403, b"{}")
        else:
            reply(connection, 200, b'{"status":"ok","instance":"i"}')

    assert read_report(health_detail(serve(treat))).workers is None


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def dripping(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    stop = threading.Event()
    while not stop.wait(0.02):
        connection.sendall(b" ")


@pytest.mark.parametrize(
    "treat",
    [
        silent,
        dripping,
        lambda connection: None,
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n"),
        answers(200, b"<html>"),
        answers(200, b"[" * 100_000),
        answers(200, b"\xff\xfe"),
        answers(200, b'{"status":"ok"}'),
        answers(200, b'{"a":"' + b"x" * 3_000_000 + b'"}'),
        answers(500, b'{"error":{}}'),
    ],
    ids=["silent", "dripping", "closing", "ssh", "html", "deep", "binary", "alien", "huge", "500"],
)
def test_what_is_no_gateway(serve: Serve, treat: Callable[[socket.socket], None]) -> None:
    url = serve(treat)
    began = monotonic()
    with pytest.raises(NoAnswer) as caught:
        health_detail(url, 0.3)
    assert not caught.value.refused
    assert monotonic() - began < 2


def test_nothing_listens(free_port: int) -> None:
    with pytest.raises(NoAnswer) as caught:
        health(f"http://127.0.0.1:{free_port}")
    assert caught.value.refused

"""Exchanges with a gateway over HTTP or HTTPS: one answer, or lines as they come.

Invariants: whatever listens there, a connection is made or given up within ``TIMEOUT_S``, an answer
with a time limit is there or given up within twice that, and what is read is bounded; a key stands
in no message.
"""

import http.client
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S = 2.0
_MAX_BYTES = 16 << 20
_MAX_LINE = 1 << 20
_HEADERS_S = 30.0


@dataclass(frozen=True)
class Gateway:
    url: str
    key: str | None = field(default=None, repr=False)


class Answer(NamedTuple):
    status: int
    body: bytes


class NoAnswer(Exception):
    """Nothing that a gateway would say came back; ``refused``: nothing even listens."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


def ask(
    gateway: Gateway,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    timeout_s: float | None = TIMEOUT_S,
) -> Answer:
    """Without a time limit an answer takes as long as the gateway is there."""
    silence = "no answer came" if timeout_s is None else f"no answer within {timeout_s:g} s"
    with (
        _connected(gateway.url, timeout_s) as connection,
        _cut_after(timeout_s, connection.sock),
        _told(silence),
        _response(connection, gateway, method, path, body) as response,
    ):
        return Answer(response.status, response.read(_MAX_BYTES))


@contextmanager
def listening(
    gateway: Gateway, method: str, path: str, body: bytes | None = None
) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The status, and the lines of the answer; NoAnswer when the connection is lost."""
    with _connected(gateway.url, None) as connection:
        silence = f"no answer within {_HEADERS_S:g} s"
        with _cut_after(_HEADERS_S, connection.sock), _told(silence):
            response = _response(connection, gateway, method, path, body)
        with response:
            yield response.status, _lines(response)


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    with _told("the connection was lost"):
        while line := response.readline(_MAX_LINE):
            yield line.rstrip(b"\r\n")


@contextmanager
def _connected(url: str, timeout_s: float | None) -> Iterator[http.client.HTTPConnection]:
    """``timeout_s`` is for each of the steps that follow."""
    connection = unconnected(url)
    try:
        connection.connect()
    except ConnectionRefusedError:
        raise NoAnswer("nothing listens there", refused=True) from None
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(
            f"its certificate is not trusted: {error.verify_message}; "
            "SSL_CERT_FILE names the file of an authority that is"
        ) from None
    except ssl.SSLError as error:
        raise NoAnswer(f"no TLS there, is it http://? ({error.reason})") from None
    except OSError as error:
        raise NoAnswer(f"no connection: {error.strerror or error}") from None
    try:
        connection.sock.settimeout(timeout_s)
        _notice_vanishing(connection.sock)
        yield connection
    finally:
        connection.close()


def unconnected(url: str) -> http.client.HTTPConnection:
    """NoAnswer if there can be no gateway at such an address."""
    wrong = NoAnswer("is not an address like http://127.0.0.1:8000 or https://mac.example")
    kinds: dict[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    try:
        parts = urlsplit(url)
        if not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query:
            raise wrong
        return kinds[parts.scheme](parts.hostname, parts.port, timeout=TIMEOUT_S)
    except (KeyError, ValueError):
        raise wrong from None


def _notice_vanishing(channel: socket.socket) -> None:
    """A machine that loses its power says no goodbye: have the system ask, every half minute."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "darwin":
        idle = socket.TCP_KEEPALIVE
    else:
        idle = socket.TCP_KEEPIDLE
    for option, value in ((idle, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
        channel.setsockopt(socket.IPPROTO_TCP, option, value)


def _response(
    connection: http.client.HTTPConnection,
    gateway: Gateway,
    method: str,
    path: str,
    body: bytes | None,
) -> http.client.HTTPResponse:
    headers = {"Connection": "close"}
    if gateway.key is not None:
        headers["Authorization"] = f"Bearer {gateway.key}"
    connection.request(method, path, body, headers)
    return connection.getresponse()


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException):
        raise NoAnswer(what) from None


@contextmanager
def _cut_after(timeout_s: float | None, channel: socket.socket) -> Iterator[None]:
    # The timeout of the socket counts from byte to byte: one byte a second would never end.
    if timeout_s is None:
        yield
        return
    timer = threading.Timer(timeout_s, _cut, [channel])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(channel: socket.socket) -> None:
    with suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)

"""A proxy on this machine, which makes whoever uses it a stranger to the gateway behind it."""

import re
import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_FORWARDED = b"X-Forwarded-For: 203.0.113.9\r\n"
_LIMIT_S = 30


class Relay:
    """One request for each connection, any number of them: a stream must not hold up the others."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        """Of the gateway; it may become another's."""
        self._tls = tls

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=[client]))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            self._relay(client)

    def _relay(self, client: socket.socket) -> None:
        client.settimeout(_LIMIT_S)
        if self._tls is not None:
            client = self._tls.wrap_socket(client, server_side=True)
        with client, socket.create_connection(("127.0.0.1", self.port), _LIMIT_S) as gateway:
            line, rest = _request(client).split(b"\r\n", 1)
            gateway.sendall(line + b"\r\n" + _FORWARDED + rest)
            while answer := gateway.recv(65536):
                client.sendall(answer)


def _request(client: socket.socket) -> bytes:
    """All of it: the body may come after the headers."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += client.recv(65536)
    head, _, body = asked.partition(b"\r\n\r\n")
    announced = re.search(rb"(?i)content-length: (\d+)", head)
    while announced is not None and len(body) < int(announced[1]):
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body

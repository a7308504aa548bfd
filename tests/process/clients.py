"""Many requests at once, and clients that behave badly."""

import asyncio
import re
import socket
from collections.abc import Iterable
from typing import Any

import httpx

from tests.process.gateways import LIMIT_S, Answer, Gateway


async def embed_all(gateway: Gateway, model: str, texts: Iterable[str]) -> list[Answer]:
    """One request per text, all in flight together; answers in the order of the texts."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=LIMIT_S, limits=limits) as client:
        url = f"http://127.0.0.1:{gateway.port}/v1/embeddings"
        bodies = [{"model": model, "input": text} for text in texts]
        return await asyncio.gather(*(_post(client, url, body) for body in bodies))


async def _post(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> Answer:
    response = await client.post(url, json=body)
    took_s = response.elapsed.total_seconds()
    return Answer(response.status_code, response.headers, response.content, took_s)


async def in_flight(gateway: Gateway, count: int) -> None:
    """Wait until so many inputs are queued or being computed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LIMIT_S
    while await loop.run_in_executor(None, gateway.waiting) < count:
        assert loop.time() < deadline, f"{count} inputs did not come together"
        await asyncio.sleep(0.002)


_LENGTH = re.compile(rb"content-length: ([0-9]+)", re.IGNORECASE)
POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"


class RawClient:
    """A connection on which a test says exactly what it wants."""

    def __init__(
        self, gateway: Gateway, address: str = "127.0.0.1", receive_buffer: int | None = None
    ) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(LIMIT_S)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((address, gateway.port))

    def send(self, *parts: bytes) -> None:
        self._socket.sendall(b"".join(parts))

    def post(self, body: bytes, *headers: bytes) -> None:
        self.send(
            POST,
            b"".join(header + b"\r\n" for header in headers),
            b"Content-Length: %d\r\n\r\n" % len(body),
            body,
        )

    def hear(self) -> bytes:
        """Everything until the server closes the connection."""
        heard = b""
        while more := self._socket.recv(65536):
            heard += more
        return heard

    def hear_answer(self) -> bytes:
        """One answer of a known length; the connection stays."""
        heard = b""
        while (end := heard.find(b"\r\n\r\n")) < 0:
            heard += self._more()
        found = _LENGTH.search(heard[:end])
        assert found is not None, heard
        while len(heard) < end + 4 + int(found[1]):
            heard += self._more()
        return heard

    def _more(self) -> bytes:
        more = self._socket.recv(65536)
        assert more, "the connection has ended"
        return more

    def hear_some(self) -> bytes:
        return self._socket.recv(65536)

    def end_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Leave without a word of goodbye."""
        now = b"\1\0\0\0" + b"\0\0\0\0"
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self._socket.close()

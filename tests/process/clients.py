"""Many requests at once, and clients that behave badly."""

import asyncio
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


POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"


class RawClient:
    """A connection on which a test says exactly what it wants."""

    def __init__(self, gateway: Gateway) -> None:
        self._socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT_S)

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

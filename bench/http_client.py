"""An HTTP client that costs next to nothing, so that what is measured is the server.

Invariants: an answer other than 200 is an error, never a measurement; a connection is used by one
request at a time and kept for the next.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple


class RequestFailed(Exception):
    """The server answered something else than 200."""


class _Head(NamedTuple):
    status: int
    length: int | None
    is_chunked: bool
    closes: bool


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Client:
    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[_Connection] = []

    def close(self) -> None:
        for connection in self._free:
            connection.writer.close()
        self._free.clear()

    async def get(self, path: str) -> bytes:
        return b"".join([chunk async for chunk in self.stream(path, None)])

    async def post(self, path: str, body: bytes) -> bytes:
        return b"".join([chunk async for chunk in self.stream(path, body)])

    async def stream(self, path: str, body: bytes | None) -> AsyncIterator[bytes]:
        connection = await self._connected()
        is_reusable = False
        try:
            connection.writer.write(_request(path, body))
            head = _parsed(await connection.reader.readuntil(b"\r\n\r\n"))
            chunks = _content(connection.reader, head)
            if head.status != 200:
                content = b"".join([chunk async for chunk in chunks])
                said = content[:300].decode(errors="replace")
                raise RequestFailed(f"{path}: {head.status} {said}")
            async for chunk in chunks:
                yield chunk
            is_reusable = not head.closes
        finally:
            # Also when whoever listens has left in the middle of an answer.
            if is_reusable:
                self._free.append(connection)
            else:
                connection.writer.close()

    async def _connected(self) -> _Connection:
        while self._free:
            kept = self._free.pop()
            # Servers close connections that were idle for a while.
            if not kept.reader.at_eof():
                return kept
            kept.writer.close()
        return _Connection(*await asyncio.open_connection("127.0.0.1", self._port, limit=2**24))


def _request(path: str, body: bytes | None) -> bytes:
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _parsed(head: bytes) -> _Head:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    fields = {name.lower(): value.strip().lower() for name, value in pairs}
    length = int(fields["content-length"]) if "content-length" in fields else None
    is_chunked = fields.get("transfer-encoding") == "chunked"
    ends_by_closing = length is None and not is_chunked
    closes = ends_by_closing or first.startswith("HTTP/1.0") or fields.get("connection") == "close"
    return _Head(int(first.split()[1]), length, is_chunked, closes)


async def _content(reader: asyncio.StreamReader, head: _Head) -> AsyncIterator[bytes]:
    if head.is_chunked:
        while size := int(await reader.readline(), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif head.length is not None:
        yield await reader.readexactly(head.length)
    else:
        while chunk := await reader.read(2**16):
            yield chunk

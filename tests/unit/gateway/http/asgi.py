"""ASGI without a server: scopes, the messages of a client, and what was sent to it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope

from mlx_serve_gateway.http.presence import Presence

HOST = (b"host", b"127.0.0.1:8000")


def http_scope(
    path: str = "/v1/embeddings",
    method: str = "POST",
    headers: Sequence[tuple[bytes, bytes]] = (),
    client: tuple[str, int] | None = ("127.0.0.1", 5000),
) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*([] if any(name == b"host" for name, _ in headers) else [HOST]), *headers],
        "client": client,
        "server": ("127.0.0.1", 8000),
        "extensions": Presence().as_extension(),
    }


class Client:
    """Sends these chunks as its body, and leaves when it is told to."""

    def __init__(self, *chunks: bytes, leaves: bool = False) -> None:
        last = len(chunks) - 1
        self._messages: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": at < last or leaves}
            for at, chunk in enumerate(chunks or (b"",))
        ]
        self.received = 0
        """Messages that were taken."""
        self._gone = asyncio.Event()
        if leaves:
            self._gone.set()

    def leave(self, scope: Scope) -> None:
        self._gone.set()
        Presence.of(scope).leave()

    async def receive(self) -> Message:
        if self._messages:
            self.received += 1
            return self._messages.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}


async def response_of(app: ASGIApp, scope: Scope, receive: Receive) -> dict[str, Any]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    return {
        "status": start["status"],
        "headers": {name.decode(): value.decode() for name, value in start["headers"]},
        "body": b"".join(message.get("body", b"") for message in sent[1:]),
    }

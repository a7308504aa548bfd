"""One request and its answer: ASGI for HTTP/1.1, between h11 and the application.

Hypercorn's own stream speaks for three versions of HTTP, and makes an event of each thing that is
said and a message of each that is heard, on every one of which it waits.
Invariants: an application that reads a body slowly slows its client down; the end of a request is
heard in any case: what nobody has read of its body by then is dropped. Nothing is sent after it.
"""

import asyncio
import logging
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import h11
from hypercorn.utils import UnexpectedMessageError, suppress_body
from starlette.types import Message, Scope

from mlx_serve_gateway.http.presence import Presence

if TYPE_CHECKING:
    from mlx_serve_gateway.connections.protocol import Protocol

log = logging.getLogger(__name__)

_MOST_UNREAD = 10
"""Parts of a body, each at most what is read at a time."""


class _Phase(Enum):
    REQUEST = auto()
    RESPONSE = auto()
    ENDED = auto()


class Stream:
    def __init__(self, protocol: "Protocol", request: h11.Request) -> None:
        self._protocol = protocol
        self._presence = Presence()
        self._method = request.method.decode("ascii").upper()
        self.scope = self._scope(request)
        self._unread: deque[bytes] = deque()
        self._is_read = False
        """The application has been told where the body ends."""
        self._heard: asyncio.Future[None] | None = None
        """Something has come that the application waits for."""
        self._room: asyncio.Future[None] | None = None
        self._phase = _Phase.REQUEST
        self._is_bodiless = False
        self._is_over = False

    def _scope(self, request: h11.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        protocol = self._protocol
        return {
            "type": "http",
            "http_version": request.http_version.decode("ascii"),
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": self._method,
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw_items()],
            "client": protocol.client,
            "server": protocol.server,
            "state": protocol.connection_state.copy(),
            "extensions": self._presence.as_extension(),
        }

    async def answer(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send, None, None)
        except Exception:
            log.exception("a request could not be answered")
        finally:
            if not self._is_over:
                if self._phase is _Phase.REQUEST:
                    await self._protocol.begin(500, [(b"content-length", b"0")], is_last=True)
                    await self._protocol.say(b"", is_last=True)
                else:
                    await self._protocol.end()

    # --- what the client says --------------------------------------------------------------------

    async def hear(self, part: bytes) -> None:
        """A part of the body; until there is room for another."""
        self._unread.append(part)
        _wake(self._heard)
        while len(self._unread) > _MOST_UNREAD:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def hear_end(self) -> None:
        self._presence.is_body_here = True
        _wake(self._heard)

    def leave(self) -> None:
        """The answer is complete, or the client is gone."""
        self._is_over = True
        if self._phase is not _Phase.ENDED:
            self._presence.leave()
        self._unread.clear()
        _wake(self._heard)
        _wake(self._room)

    async def receive(self) -> Message:
        while not (self._unread or self._is_over or self._has_end_to_tell):
            await self._protocol.invite()
            self._heard = asyncio.get_running_loop().create_future()
            await self._heard
        if self._is_over:
            return {"type": "http.disconnect"}
        part = self._unread.popleft() if self._unread else b""
        _wake(self._room)
        self._is_read = self._presence.is_body_here and not self._unread
        return {"type": "http.request", "body": part, "more_body": not self._is_read}

    @property
    def _has_end_to_tell(self) -> bool:
        return self._presence.is_body_here and not self._is_read

    # --- what it is told -------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        if self._is_over:
            return
        kind = message["type"]
        if kind == "http.response.start" and self._phase is _Phase.REQUEST:
            status = message["status"]
            await self._protocol.begin(status, message["headers"])
            self._is_bodiless = suppress_body(self._method, status)
            self._phase = _Phase.RESPONSE
        elif kind == "http.response.body" and self._phase is _Phase.RESPONSE:
            is_last = not message.get("more_body", False)
            if is_last:
                self._phase = _Phase.ENDED
            part = b"" if self._is_bodiless else message.get("body", b"")
            await self._protocol.say(part, is_last=is_last)
        else:
            raise UnexpectedMessageError(self._phase, kind)


def _wake(waiting: "asyncio.Future[None] | None") -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)

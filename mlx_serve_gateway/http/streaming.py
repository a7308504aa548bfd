"""An answer that is sent while it is being said, in the words of whichever API it was asked by.

Invariants: what goes wrong before the model has taken up the request is an ordinary HTTP error;
what goes wrong later is told in the stream, which then ends; a client that leaves stops the answer.
"""

import logging
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.answering import Heard
from mlx_serve_gateway.http.disconnect import unless_gone

log = logging.getLogger(__name__)

SSE = "text/event-stream; charset=utf-8"
NDJSON = "application/x-ndjson"


class Dialect(Protocol):
    """How an API puts a stream into bytes; empty ones are not sent."""

    media_type: str

    def opening(self) -> bytes: ...

    def said(self, said: list[Said]) -> bytes: ...

    def silence(self) -> bytes:
        """Something that a client reads over."""

    def closing(self) -> bytes: ...

    def failed(self, error: ServeError) -> bytes:
        """In place of the rest."""


class StreamedAnswer(Response):
    def __init__(self, hearing: Heard, dialect: Dialect) -> None:
        super().__init__(media_type=dialect.media_type)
        del self.headers["content-length"]
        self._hearing = hearing
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        telling = _Telling(self._hearing, self._dialect, self.raw_headers, send)
        try:
            await unless_gone(scope, telling.run())
        except ServeError:
            if not telling.has_begun:
                raise


class _Telling:
    def __init__(
        self, hearing: Heard, dialect: Dialect, headers: list[tuple[bytes, bytes]], send: Send
    ) -> None:
        self._pieces = hearing.pieces()
        self._dialect = dialect
        self._headers = headers
        self._send = send
        self.has_begun = False

    async def run(self) -> None:
        async with aclosing(self._pieces):
            first = await self._first_words()
            await self._begin()
            try:
                await self._write(self._dialect.opening() + self._put(first))
                async for said in self._pieces:
                    await self._write(self._put(said))
                await self._write(self._dialect.closing())
            except ServeError as error:
                await self._write(self._dialect.failed(error))
            except Exception:
                log.exception("a stream has failed")
                told = ServeError(ErrorCode.INTERNAL_ERROR, "an internal error")
                await self._write(self._dialect.failed(told))
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _first_words(self) -> list[Said]:
        """Nothing, if the model takes its time: then the stream begins with a sign of life."""
        async for said in self._pieces:
            return said
        return []

    async def _begin(self) -> None:
        self.has_begun = True
        start = {"type": "http.response.start", "status": 200, "headers": self._headers}
        await self._send(start)

    async def _write(self, body: bytes) -> None:
        if body:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    def _put(self, said: list[Said]) -> bytes:
        return self._dialect.said(said) if said else self._dialect.silence()

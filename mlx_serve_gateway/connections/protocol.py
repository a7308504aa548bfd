"""The requests of one connection, one after another: HTTP/1.1 and nothing else.

Invariants: a body is invited only when somebody wants to read it; what is no HTTP is answered in
our words, once, and ends the connection; who sends a second request before it has the answer to
the first (it could have been smuggled in) gets that answer and no other. An ``Upgrade`` is ignored,
as RFC 9110 lets a server do.
"""

import logging
from collections.abc import Sequence
from typing import Any

import h11
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.connections.stream import Stream
from mlx_serve_gateway.http.errors import error_response
from mlx_serve_gateway.http.guard import SAFE_HEADERS

log = logging.getLogger(__name__)

_CLOSE = (b"connection", b"close")

Headers = Sequence[tuple[bytes, bytes]]


class Protocol(H11Protocol):
    connection: h11.Connection
    stream: Stream | None  # type: ignore[assignment]

    def __init__(
        self,
        app: Any,
        config: Any,
        context: Any,
        tasks: Any,
        state: Any,
        ssl: bool,
        client: Any,
        server: Any,
        send: Any,
        alpn_protocol: str | None = None,
    ) -> None:
        super().__init__(app, config, context, tasks, state, ssl, client, server, send)
        self._has_run_ahead = False

    # --- from the client -------------------------------------------------------------------------

    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData) and self._has_run_ahead:
            return
        await super().handle(event)

    async def _handle_events(self) -> None:
        while True:
            raw = self.connection.trailing_data[0] if self._is_between_requests else b""
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(_what_is_wrong(error))
                return
            if isinstance(event, h11.Request):
                await self.send(Updated(idle=False))
                if not _has_whole_line_ends(raw):
                    await self._refuse(_not_http("lines of its head do not end in CR LF"))
                    return
                self.stream = Stream(self, event)
                self.task_group.spawn(self.stream.answer, self.app)
            elif event is h11.PAUSED:
                self._has_run_ahead = self.connection.trailing_data[0] != b""
                return
            elif self.stream is None or event is h11.NEED_DATA:
                return
            elif isinstance(event, h11.Data):
                await self.stream.hear(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.stream.hear_end()

    @property
    def has_begun_head(self) -> bool:
        """Whether a part of a request is there that is not yet one."""
        return self._is_between_requests and self.connection.trailing_data[0] != b""

    @property
    def _is_between_requests(self) -> bool:
        return self.connection.their_state is h11.IDLE

    async def invite(self) -> None:
        """Somebody waits for the body."""
        if self.connection.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))

    # --- to the client ---------------------------------------------------------------------------

    async def begin(self, status: int, headers: Headers, *, is_last: bool = False) -> None:
        """The head of an answer."""
        last = [_CLOSE] if is_last or self._is_last else []
        own = self.config.response_headers("h11")
        await self._send(h11.Response(status_code=status, headers=[*headers, *last, *own]))

    async def say(self, part: bytes, *, is_last: bool) -> None:
        """A part of its body, or none."""
        parts = [h11.Data(data=part)] if part else []
        if not is_last:
            await self._send(*parts)
            return
        await self._send(*parts, h11.EndOfMessage())
        await self.end()

    async def end(self) -> None:
        """There is no more to say, complete or not."""
        if self._has_run_ahead:
            await self._close_stream()
            await self.send(Closed())
        else:
            await self._maybe_recycle()

    @property
    def _is_last(self) -> bool:
        """Whether nothing can follow this answer: what the client still sends is not read."""
        return self._has_run_ahead or self.connection.their_state is h11.SEND_BODY

    async def _send(self, *events: h11.Event) -> None:
        try:
            parts = [self.connection.send(event) for event in events]
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
        else:
            for part in filter(None, parts):
                await self.send(RawData(part))

    async def _close_stream(self) -> None:
        if self.stream is not None:
            self.stream.leave()
            self.stream = None

    # --- refusals --------------------------------------------------------------------------------

    async def refuse_late_head(self) -> None:
        if self._is_between_requests:
            message = "the head of the request did not arrive in time"
            await self._refuse(ServeError(ErrorCode.REQUEST_TIMEOUT, message))

    async def _refuse(self, error: ServeError) -> None:
        """Say why, if nothing was said yet, and end the connection."""
        log.info("not a request: %s", error.message)
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = error_response(error, "", SAFE_HEADERS)
            await self.begin(answer.status_code, answer.raw_headers, is_last=True)
            await self._send(h11.Data(data=bytes(answer.body)), h11.EndOfMessage())
        await self._close_stream()
        await self.send(Closed())


def _what_is_wrong(error: h11.RemoteProtocolError) -> ServeError:
    if error.error_status_hint == 431:
        return ServeError(ErrorCode.HEADERS_TOO_LARGE, "the head of the request is too large")
    return _not_http("it breaks the rules of HTTP/1.1")


def _not_http(why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"the request cannot be read: {why}")


def _has_whole_line_ends(raw: bytes) -> bool:
    """h11 takes a bare LF for the end of a line, and a proxy in front may not."""
    head, end, _ = raw.lstrip(b"\r\n").partition(b"\r\n\r\n")
    return end != b"" and head.count(b"\n") == head.count(b"\r\n")

"""The requests of one connection, one after another: HTTP/1.1 and nothing else.

Invariants: a body is invited only when somebody wants to read it; what is no HTTP is answered in
our words, once, and ends the connection; who sends a second request before it has the answer to
the first (it could have been smuggled in) gets that answer and no other. An ``Upgrade`` is ignored,
as RFC 9110 lets a server do.
"""

import logging
from dataclasses import replace
from typing import Any

import h11
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.connections.requests import Requests
from mlx_serve_gateway.http.errors import error_response
from mlx_serve_gateway.http.guard import SAFE_HEADERS

log = logging.getLogger(__name__)

_CLOSE = (b"connection", b"close")


class Protocol(H11Protocol):
    connection: h11.Connection

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
        requests: Any = Requests(tasks, self._invite)
        super().__init__(app, config, context, requests, state, ssl, client, server, send)
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
                await self._create_stream(event)
            elif event is h11.PAUSED:
                self._has_run_ahead = self.connection.trailing_data[0] != b""
                return
            elif self.stream is None or event is h11.NEED_DATA:
                return
            elif isinstance(event, h11.Data):
                await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self.stream.handle(EndBody(stream_id=STREAM_ID))

    @property
    def has_begun_head(self) -> bool:
        """Whether a part of a request is there that is not yet one."""
        return self._is_between_requests and self.connection.trailing_data[0] != b""

    @property
    def _is_between_requests(self) -> bool:
        return self.connection.their_state is h11.IDLE

    async def _create_stream(self, request: h11.Request) -> None:
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    # --- to the client ---------------------------------------------------------------------------

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and event.status_code >= 200 and self._is_last:
            event = replace(event, headers=[*event.headers, _CLOSE])
        await super().stream_send(event)

    @property
    def _is_last(self) -> bool:
        """Whether nothing can follow this answer: what the client still sends is not read."""
        return self._has_run_ahead or self.connection.their_state is h11.SEND_BODY

    async def _maybe_recycle(self) -> None:
        if self._has_run_ahead:
            await self._close_stream()
            await self.send(Closed())
        else:
            await super()._maybe_recycle()

    async def _invite(self) -> None:
        if self.connection.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._send_h11_event(go_on)

    # --- refusals --------------------------------------------------------------------------------

    async def refuse_late_head(self) -> None:
        if self._is_between_requests:
            message = "the head of the request did not arrive in time"
            await self._refuse(ServeError(ErrorCode.REQUEST_TIMEOUT, message))

    async def _refuse(self, error: ServeError) -> None:
        """Say why, if nothing was said yet, and end the connection."""
        log.info("not a request: %s", error.message)
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = error_response(error, "", {**SAFE_HEADERS, "connection": "close"})
            own = self.config.response_headers("h11")
            headers = [*answer.raw_headers, *own]
            await self._send_h11_event(
                h11.Response(status_code=answer.status_code, headers=headers)
            )
            await self._send_h11_event(h11.Data(data=bytes(answer.body)))
            await self._send_h11_event(h11.EndOfMessage())
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

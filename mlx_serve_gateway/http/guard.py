"""The outermost ASGI layer: request ids, counting, refusing while draining.

Plain ASGI: Starlette's BaseHTTPMiddleware hides the client's disconnect from handlers.
"""

import logging
import secrets
from collections.abc import Callable
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_serve_common.logs import request_id, trace_id
from mlx_serve_gateway.http.errors import error_response
from mlx_serve_gateway.http.trace_context import trace_id_of
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.refusals import shutting_down

log = logging.getLogger(__name__)

# Answered also while draining, and however many requests are running.
PROBES = {"/", "/health", "/health/detail", "/livez", "/readyz"}
SAFE_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
_SAFE = [(name.encode(), value.encode()) for name, value in SAFE_HEADERS.items()]
NOT_COUNTED = {"/metrics", "/health", "/health/detail", "/livez", "/readyz"}
NOBODY_HEARD = 499
"""The status of an answer that was not begun before its client left."""
_LONGEST_ID = 128

Count = Callable[[str, int, float, int], None]
"""Told of every answer: path, status, seconds, and how large the request was."""


class Guard:
    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, count: Count) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        name = _clean(given) or f"req-{secrets.token_hex(8)}"
        token, trace = (
            request_id.set(name),
            trace_id.set(trace_id_of(scope["headers"]) or trace_id.get()),
        )
        status = received = 0
        started = monotonic()
        is_counted = scope["path"] in NOT_COUNTED

        def count() -> None:
            nonlocal is_counted
            if not is_counted:
                is_counted = True
                told = status or NOBODY_HEARD
                self._count(scope["path"], told, monotonic() - started, received)

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", name.encode()), *_SAFE
                message["headers"] = [*message["headers"], *own]
            elif not message.get("more_body"):
                # Before it leaves: whoever has an answer finds it counted.
                count()
            await send(message)

        self._lifecycle.enter()
        try:
            if self._lifecycle.is_draining and scope["path"] not in PROBES:
                refusal = error_response(shutting_down(), scope["path"])
                await refusal(scope, receive, send_with_id)
            else:
                await self._app(scope, counted, send_with_id)
        finally:
            self._lifecycle.leave()
            count()
            level = logging.INFO if status >= 400 else logging.DEBUG
            log.log(level, "%s %s %d", scope["method"], scope["path"], status)
            request_id.reset(token)
            trace_id.reset(trace)


def _clean(given: bytes) -> str:
    """The client's own id, if it can stand in a log and a header."""
    if not given or len(given) > _LONGEST_ID or not given.isascii():
        return ""
    text = given.decode("ascii")
    return text if text.isprintable() else ""

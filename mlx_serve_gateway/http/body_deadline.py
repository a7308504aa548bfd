"""How long the body of a request may take to arrive.

Invariants: the time counts from when somebody wants to read the body; once it is there, or an
answer has begun, a client may be silent for as long as it likes.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.presence import Presence

_SLOWEST_BYTES_S = 1024


class BodyDeadline:
    """An ASGI layer around what reads bodies and tells errors."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        presence = Presence.of(scope)
        started: float | None = None
        received = 0
        is_open = True

        async def in_time() -> Message:
            nonlocal started, received, is_open
            if presence.is_body_here or not is_open:
                return await receive()
            started = loop.time() if started is None else started
            due = started + patience_s(received, self._timeout_s)
            try:
                async with asyncio.timeout_at(due):
                    message = await receive()
            except TimeoutError:
                is_open = False
                raise ServeError(
                    ErrorCode.REQUEST_TIMEOUT, "the body of the request did not arrive in time"
                ) from None
            received += len(message.get("body", b""))
            is_open = message.get("more_body", False)
            return message

        async def send_on(message: Message) -> None:
            nonlocal is_open
            is_open = False
            await send(message)

        await self._app(scope, in_time, send_on)


def patience_s(received: int, timeout_s: float) -> float:
    """When a body is too slow, of which so much is there: a trickle is not heard to its end."""
    return min(timeout_s, timeout_s / 3 + received / _SLOWEST_BYTES_S)

"""An ASGI layer that has a span for each request that Prometheus counts."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_serve_common.logs import trace_id
from mlx_serve_gateway.http.guard import NOBODY_HEARD, NOT_COUNTED
from mlx_serve_gateway.http.trace_context import trace_parent_of
from mlx_serve_gateway.tracing import Tracing, works


class Traced:
    def __init__(self, app: ASGIApp, tracing: Tracing, endpoint_of: Callable[[str], str]) -> None:
        self._app = app
        self._tracing = tracing
        self._endpoint_of = endpoint_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NOT_COUNTED:
            await self._app(scope, receive, send)
            return
        status = NOBODY_HEARD

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        span = self._tracing.begin(scope["method"], trace_parent_of(scope["headers"]))
        worked, trace = works.set(span.works), trace_id.set(span.trace_id)
        try:
            await self._app(scope, receive, observed)
        finally:
            span.end(self._endpoint_of(scope["path"]), status)
            works.reset(worked)
            trace_id.reset(trace)

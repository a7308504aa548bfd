"""Has a request answered by its handler, and errors told that it raises.

Starlette's application looks at one route after another, and each of its layers for errors wraps
the way to the client once more. A fixed path is found at once here; Starlette's router has the
others, and what becomes of a path or a method that is not ours.
Invariant: an error is told once, and only while nothing of an answer was sent.
"""

from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from mlx_serve_gateway.http.access import Handler


class Endpoints:
    """An ASGI application."""

    def __init__(
        self,
        routes: Iterable[Route],
        lifespan: Lifespan[ASGIApp],
        told: Callable[[Scope, Exception], Response],
    ) -> None:
        routes = list(routes)
        # A redirect from /v1/embeddings/ would lose the body of many clients.
        self._router = Router(routes, redirect_slashes=False, lifespan=lifespan)
        self._told = told
        self._fixed: dict[tuple[str, str], Handler] = {}
        for route in routes:
            if not route.param_convertors:
                for method in route.methods or ():
                    self._fixed.setdefault((method, route.path), route.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        has_begun = False

        async def observed(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            handler = self._fixed.get((scope["method"], scope["path"]))
            if handler is None:
                # Without it Starlette refuses in words of its own.
                scope["app"] = self
                await self._router(scope, receive, observed)
            else:
                response = await handler(Request(scope, receive, observed))
                await response(scope, receive, observed)
        except Exception as error:
            if has_begun:
                raise
            await self._told(scope, error)(scope, receive, send)

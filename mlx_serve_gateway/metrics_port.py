"""/metrics on a port of its own, to this machine alone, or to who has the key.

Invariants: nothing else is served there; a port that is taken costs the metrics on it and nothing
more.
"""

import logging
import socket
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.http.access import Access
from mlx_serve_gateway.http.browser_rules import BrowserRules
from mlx_serve_gateway.http.errors import error_response
from mlx_serve_gateway.http.prometheus import PrometheusApi
from mlx_serve_gateway.services import Services

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"


def metrics_listener(port: int) -> socket.socket | None:
    """None, and a warning, if it cannot be had."""
    try:
        listener = socket.create_server((_HOST, port))
    except OSError as error:
        log.warning("/metrics is not served on port %d: %s", port, error.strerror)
        return None
    log.info("/metrics is served on http://%s:%d too", _HOST, port)
    return listener


def metrics_app(services: Callable[[], Services]) -> ASGIApp:
    """``services`` are those of the moment: a reload may change who may look."""

    async def metrics(request: Request) -> Response:
        now = services()
        access = Access(now.config.server, now.controls.own_key)
        return await access.to_look(PrometheusApi(now.metrics.text).metrics)(request)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServeError)
        return error_response(error, request.scope["path"])

    app = Starlette(routes=[Route("/metrics", metrics)], exception_handlers={ServeError: refused})
    return BrowserRules(app, services().config.server)

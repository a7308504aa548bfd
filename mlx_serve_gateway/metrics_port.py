"""/metrics on a port of its own, to this machine alone.

Invariants: nothing else is served there; a port that is taken costs the metrics on it and nothing
more.
"""

import logging
import socket
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from mlx_serve_common.config import ServerConfig
from mlx_serve_gateway.http.browser_rules import BrowserRules
from mlx_serve_gateway.http.prometheus import PrometheusApi

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


def metrics_app(read: Callable[[], str], config: ServerConfig) -> ASGIApp:
    app = Starlette(routes=[Route("/metrics", PrometheusApi(read).metrics)])
    return BrowserRules(app, config)

"""Hypercorn's configuration, with what our connections want to know besides."""

import logging
import socket
from time import monotonic

import hypercorn.asyncio.run
import hypercorn.asyncio.tcp_server
from hypercorn.config import Config as HypercornConfig
from hypercorn.config import Sockets

from mlx_serve_common.config import LimitsConfig
from mlx_serve_gateway.connections.connection import Connection
from mlx_serve_gateway.connections.places import Places
from mlx_serve_gateway.connections.protocol import Protocol
from mlx_serve_gateway.http.request_head import MAX_URL_BYTES

BACKLOG = 2048


class Settings(HypercornConfig):
    header_timeout: float
    places: Places["Connection"]
    _dated: tuple[int, list[tuple[bytes, bytes]]] = (0, [])

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """With the date, which is told anew once a second."""
        second = int(monotonic())
        if self._dated[0] != second:
            self._dated = second, super().response_headers(protocol)
        return self._dated[1]

    def create_sockets(self) -> Sockets:
        sockets = super().create_sockets()
        for listener in sockets.insecure_sockets:
            # Hypercorn has made it inheritable: a worker would keep the port open after us.
            listener.set_inheritable(False)
        return sockets


def settings_for(limits: LimitsConfig, listeners: list[socket.socket]) -> Settings:
    settings = Settings()
    settings.bind = [f"fd://{listener.detach()}" for listener in listeners]
    settings.backlog = BACKLOG
    settings.graceful_timeout = limits.drain_timeout
    settings.include_server_header = False
    settings.header_timeout = limits.header_timeout
    settings.keep_alive_timeout = limits.idle_timeout
    settings.places = Places(limits.max_connections)
    # More than is allowed, so that most of what is too long is told in our words.
    settings.h11_max_incomplete_size = 2 * (limits.max_header_bytes + MAX_URL_BYTES)
    settings.accesslog = None
    settings.errorlog = logging.getLogger("hypercorn.error")
    # No read_timeout: it counts while a client silently waits for its answer.
    return settings


def install() -> None:
    """Have Hypercorn use our connections; it takes no others from outside."""
    setattr(hypercorn.asyncio.run, "TCPServer", Connection)  # noqa: B010
    setattr(hypercorn.asyncio.tcp_server, "ProtocolWrapper", Protocol)  # noqa: B010

"""How many requests may be worked on at once: in all, and for one peer.

Invariants: who is over it is told at once, and when to come again; probes are always answered;
callers on this machine are bounded by the total alone, for they may be a proxy with everybody
behind it.
"""

import ipaddress
from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_serve_common.config import LimitsConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.errors import error_response
from mlx_serve_gateway.http.guard import PROBES
from mlx_serve_gateway.http.peer import is_loopback_address

_RETRY_AFTER_S = 1
_IPV6_HOST_BITS = 64


class InFlight:
    """An ASGI layer around what works."""

    def __init__(self, app: ASGIApp, limits: LimitsConfig) -> None:
        self._app = app
        self._limits = limits
        self._by_peer: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        peer = _peer(scope)
        if self._is_over(peer):
            message = "too many requests are running; try again when one of them is done"
            error = ServeError(ErrorCode.QUEUE_FULL, message, retry_after_s=_RETRY_AFTER_S)
            await error_response(error, scope["path"])(scope, receive, send)
            return
        self._by_peer[peer] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]

    def _is_over(self, peer: str) -> bool:
        if self._by_peer.total() >= self._limits.max_requests:
            return True
        return peer != _HERE and self._by_peer[peer] >= self._limits.max_requests_per_peer


_HERE = ""


def _peer(scope: Scope) -> str:
    """Whose share it is: an IPv6 host can call from each of 2^64 addresses."""
    client = scope.get("client")
    if not client or is_loopback_address(client[0]):
        return _HERE
    address = ipaddress.ip_address(client[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_HOST_BITS), strict=False))

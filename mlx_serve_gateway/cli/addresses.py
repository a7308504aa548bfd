"""Addresses as people and clients need them, derived from what a server is bound to."""

import ipaddress
import socket

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
# Reserved for documentation: "connecting" a datagram socket sends nothing, it only picks a route.
_ELSEWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}


def local_url(host: str, port: int) -> str:
    """Where this machine reaches a server bound to ``host``."""
    return _url(_WILDCARDS.get(host, host), port)


def network_url(listeners: list[socket.socket]) -> str | None:
    """Where other machines reach the server; None when only this one can."""
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.is_unspecified:
            return _url(_own_address(listener.family), port)
        if not address.is_loopback:
            return _url(host, port)
    return None


def _own_address(family: int) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as route:
        try:
            route.connect(_ELSEWHERE[socket.AddressFamily(family)])
        except OSError:
            return socket.gethostname()
        address: str = route.getsockname()[0]
        return address


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

"""Who is calling, judged by the socket alone."""

import functools
import ipaddress

from starlette.types import Scope

# A proxy on this machine makes the whole world look local.
_FORWARDING = {b"forwarded", b"via", b"x-real-ip"}
_FORWARDING_PREFIX = b"x-forwarded-"


def is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if not client or not is_loopback_address(client[0]):
        return False
    return not any(
        name in _FORWARDING or name.startswith(_FORWARDING_PREFIX) for name, _ in scope["headers"]
    )


@functools.lru_cache(maxsize=256)
def is_loopback_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

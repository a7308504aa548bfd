"""Who counts as this machine."""

import pytest

from mlx_serve_gateway.http.peer import is_loopback
from tests.unit.gateway.http.asgi import http_scope


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "::1%lo", "0:0:0:0:0:0:0:1"]
)
def test_this_machine(host: str) -> None:
    assert is_loopback(http_scope(client=(host, 1)))


@pytest.mark.parametrize(
    "host",
    [
        "192.168.1.7",
        "10.0.0.1",
        "0.0.0.0",
        "::",
        "8.8.8.8",
        "::ffff:10.0.0.1",
        "fe80::1%en0",
        "128.0.0.1",
        "127.0.0.1.nip.io",
        "localhost",
        "",
        "unix:",
    ],
)
def test_any_other(host: str) -> None:
    assert not is_loopback(http_scope(client=(host, 1)))


def test_an_unknown_peer_is_another() -> None:
    assert not is_loopback(http_scope(client=None))


@pytest.mark.parametrize(
    "name", [b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"]
)
def test_behind_a_proxy_nobody_is_local(name: bytes) -> None:
    assert not is_loopback(http_scope(headers=[(name, b"127.0.0.1")]))

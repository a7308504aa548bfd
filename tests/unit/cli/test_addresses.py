import socket
from collections.abc import Iterator

import pytest

from mlx_serve_gateway.cli.addresses import local_url, network_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("fd00::7", "http://[fd00::7]:8000"),
        ("mini.local", "http://mini.local:8000"),
    ],
)
def test_local_url(host: str, url: str) -> None:
    assert local_url(host, 8000) == url


class Bound(socket.socket):
    """A socket that says it is bound to an address, and is not."""

    address = ""

    def getsockname(self) -> tuple[str, int]:
        return self.address, 8000


@pytest.fixture
def bound() -> Iterator[Bound]:
    with Bound() as listener:
        yield listener


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", None),
        ("127.8.8.8", None),
        ("::1", None),
        ("192.168.1.5", "http://192.168.1.5:8000"),
        ("fe80::1%eth0", "http://[fe80::1%eth0]:8000"),
    ],
)
def test_network_url(bound: Bound, address: str, url: str | None) -> None:
    bound.address = address
    assert network_url([bound]) == url


def test_a_wildcard_is_told_as_an_address_that_others_can_use(bound: Bound) -> None:
    bound.address = "0.0.0.0"
    url = network_url([bound])
    assert url is not None
    assert "0.0.0.0" not in url


def test_a_wildcard_of_one_family_is_no_address_of_the_other() -> None:
    with Bound(socket.AF_INET6) as listener:
        listener.address = "::"
        url = network_url([listener])
    assert url is not None
    # Without a route to anywhere it is the machine's name.
    assert "[" in url or socket.gethostname() in url

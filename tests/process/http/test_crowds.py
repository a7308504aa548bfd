"""More clients than there is room for: who is let in, who is told to come again, who is not cut."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest

from mlx_serve_common.config import Config, LimitsConfig
from tests.process.clients import RawClient
from tests.process.gateways import Gateway
from tests.process.homes import Home
from tests.process.http.conftest import assert_healthy, connections
from tests.waiting import until

pytestmark = pytest.mark.process

PLACES, AT_ONCE, OF_ONE_PEER = 12, 4, 2
SLEEPING = b'{"model":"m","input":"__sleep:1__"}'
EVENTS = b"GET /admin/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def started(limits: LimitsConfig) -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("m")
        with Gateway(home.path, home.store, Config(limits=limits), host="0.0.0.0") as gateway:
            gateway.assert_serves("m")
            until(lambda: connections(gateway) == 0)
            yield gateway


@pytest.fixture(scope="module")
def small() -> Iterator[Gateway]:
    with started(LimitsConfig(max_connections=PLACES)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def busy() -> Iterator[Gateway]:
    limits = LimitsConfig(max_requests=AT_ONCE, max_requests_per_peer=OF_ONE_PEER)
    with started(limits) as gateway:
        yield gateway


@contextmanager
def held(gateway: Gateway, count: int, sent: bytes, address: str = "127.0.0.1") -> Iterator[None]:
    """So many clients that have sent this and wait."""
    with ExitStack() as leaving:
        for _ in range(count):
            client = RawClient(gateway, address)
            leaving.callback(client.leave)
            client.send(sent)
        yield
    until(lambda: connections(gateway) == 0)


def post(body: bytes) -> bytes:
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("sent", [b"", b"GET / HT"], ids=["nothing", "half a head"])
def test_who_asks_nothing_makes_room(small: Gateway, sent: bytes) -> None:
    with held(small, PLACES * 5, sent):
        assert_healthy(small)
        assert connections(small) <= PLACES
        small.assert_serves("m")


def test_who_is_being_answered_keeps_its_place(small: Gateway) -> None:
    with held(small, PLACES, EVENTS):
        until(lambda: connections(small) == PLACES)
        late = RawClient(small)
        with suppress(ConnectionResetError):
            assert late.hear() == b""
        late.leave()
        assert connections(small) == PLACES
    small.assert_serves("m")


def test_too_many_requests_are_told_when_to_come_again(busy: Gateway) -> None:
    with held(busy, AT_ONCE, EVENTS):
        until(lambda: connections(busy) == AT_ONCE)
        answer = busy.embed("m", "a")
        assert (answer.status, answer.code) == (429, "queue_full")
        assert answer.headers["retry-after"] == "1"
        for path in ("/health", "/livez", "/readyz", "/"):
            assert busy.ask("GET", path).status == 200
    busy.assert_serves("m")


def own_address() -> str:
    """One of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family is socket.AF_INET and not each.address.startswith("127."):
                return each.address
    pytest.skip("this machine has no second address")


def test_one_peer_cannot_have_everything(busy: Gateway) -> None:
    address = own_address()
    with held(busy, OF_ONE_PEER, post(SLEEPING), address):
        until(lambda: busy.waiting() == OF_ONE_PEER)
        client = RawClient(busy, address)
        client.send(post(b'{"model":"m","input":"a"}'))
        heard = client.hear_answer()
        client.leave()
        assert heard.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1\r\n" in heard
        # This machine is not that peer; what it asks is refused for another reason.
        assert busy.embed("nope", "a").code == "model_not_found"


def test_a_request_that_has_ended_counts_no_more(busy: Gateway) -> None:
    client = RawClient(busy, own_address())
    for _ in range(OF_ONE_PEER * 3):
        client.send(post(b'{"model":"nope","input":"a"}'))
        assert client.hear_answer().startswith(b"HTTP/1.1 404 ")
    client.leave()

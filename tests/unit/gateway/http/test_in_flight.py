"""How many requests may run: in all, for one peer, and who is not counted."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mlx_serve_common.config import LimitsConfig
from mlx_serve_gateway.http.in_flight import InFlight
from tests.unit.gateway.http.asgi import Client, http_scope, response_of

HERE, FAR, FARTHER = "127.0.0.1", "192.0.2.7", "192.0.2.8"


class App:
    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.may_answer.wait()
        await PlainTextResponse("fine")(scope, receive, send)


class Clients:
    """Each sends a request and waits; those that are refused have their answer at once."""

    def __init__(self, at_once: int = 5, of_one_peer: int = 2) -> None:
        self._app = App()
        limits = LimitsConfig(max_requests=at_once, max_requests_per_peer=of_one_peer)
        self._layer = InFlight(self._app, limits)
        self._waiting: list[asyncio.Task[object]] = []

    async def status(self, address: str | None, path: str = "/v1/embeddings") -> int:
        """429, or 0 while it is being answered."""
        client = None if address is None else (address, 5000)
        scope = http_scope(path, client=client)
        task = asyncio.ensure_future(response_of(self._layer, scope, Client().receive))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if task.done():
            response = task.result()
            assert response["headers"]["retry-after"] == "1"
            return int(response["status"])
        self._waiting.append(task)
        return 0

    async def answer_all(self) -> None:
        self._app.may_answer.set()
        await asyncio.gather(*self._waiting)
        self._app.may_answer.clear()


async def test_one_peer_has_its_share_and_others_have_theirs() -> None:
    clients = Clients()
    assert [await clients.status(FAR) for _ in range(3)] == [0, 0, 429]
    assert [await clients.status(FARTHER) for _ in range(3)] == [0, 0, 429]
    await clients.answer_all()


async def test_what_is_answered_counts_no_more() -> None:
    clients = Clients()
    for _ in range(3):
        assert [await clients.status(FAR) for _ in range(3)] == [0, 0, 429]
        await clients.answer_all()


@pytest.mark.parametrize("here", [HERE, "127.9.9.9", "::1", "::ffff:127.0.0.1", None])
async def test_this_machine_is_bounded_by_the_total_alone(here: str | None) -> None:
    clients = Clients()
    assert [await clients.status(here) for _ in range(6)] == [0, 0, 0, 0, 0, 429]
    assert await clients.status(FAR) == 429
    await clients.answer_all()


async def test_the_addresses_of_one_network_are_one_peer() -> None:
    clients = Clients()
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"]
    assert [await clients.status(address) for address in addresses] == [0, 0, 429, 0]
    await clients.answer_all()


async def test_one_address_written_in_two_ways_is_one_peer() -> None:
    clients = Clients()
    assert [await clients.status(each) for each in (FAR, f"::ffff:{FAR}", FAR)] == [0, 0, 429]
    await clients.answer_all()


async def test_probes_are_always_answered() -> None:
    clients = Clients(at_once=1)
    assert await clients.status(FAR) == 0
    assert await clients.status(FAR, "/health") == 0
    await clients.answer_all()

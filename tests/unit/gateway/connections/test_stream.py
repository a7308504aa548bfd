"""What an application is told of a request, and what becomes of its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, cast

import h11
import pytest
from hypercorn.utils import UnexpectedMessageError
from starlette.types import Message, Receive, Scope, Send

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.connections.protocol import Protocol
from mlx_serve_gateway.connections.stream import Stream
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.presence import Presence
from tests.unit.gateway.fake_workers import settle

LEFT: Message = {"type": "http.disconnect"}
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class StubProtocol:
    """Remembers what it is to send."""

    client = ("10.0.0.1", 5)
    server = ("10.0.0.2", 80)
    stream: Stream
    connection_state: ClassVar[dict[str, Any]] = {"kept": 1}

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.invitations = 0

    async def invite(self) -> None:
        self.invitations += 1

    async def begin(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], *, is_last: bool = False
    ) -> None:
        self.sent.append((status, list(headers), is_last))

    async def say(self, part: bytes, *, is_last: bool) -> None:
        self.sent.append((part, is_last))
        if is_last:
            self.stream.leave()

    async def end(self) -> None:
        self.sent.append("end")
        self.stream.leave()


class World:
    def __init__(self, method: str = "POST", target: str = "/a%20b?c=%20") -> None:
        self.protocol = StubProtocol()
        request = h11.Request(method=method, target=target, headers=[("Host", "h"), ("X-A", "1")])
        self.stream = self.protocol.stream = Stream(cast(Protocol, self.protocol), request)

    async def answered(self, app: Callable[[Send], Awaitable[None]]) -> list[Any]:
        async def asgi(scope: Scope, receive: Receive, send: Send, *more: None) -> None:
            await app(send)

        await self.stream.answer(asgi)
        return self.protocol.sent


def test_the_scope_is_what_was_asked() -> None:
    scope = World().stream.scope
    assert scope["method"] == "POST"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        "/a b",
        b"/a%20b",
        b"c=%20",
    )
    assert scope["headers"] == [(b"host", b"h"), (b"x-a", b"1")]
    assert (scope["client"], scope["server"]) == (("10.0.0.1", 5), ("10.0.0.2", 80))
    scope["state"]["kept"] = 2
    assert StubProtocol.connection_state == {"kept": 1}


# --- the body ------------------------------------------------------------------------------------


async def test_a_body_that_is_here_is_heard_at_once() -> None:
    stream = World().stream
    await stream.hear(b"all")
    stream.hear_end()

    assert Presence.of(stream.scope).is_body_here
    assert await stream.receive() == part(b"all", more=False)


async def test_a_request_without_a_body_has_an_empty_one() -> None:
    stream = World().stream
    stream.hear_end()

    assert await stream.receive() == part(b"", more=False)


async def test_parts_come_in_their_order_and_the_end_when_it_comes() -> None:
    stream = World().stream
    await stream.hear(b"a")
    await stream.hear(b"b")
    assert not Presence.of(stream.scope).is_body_here
    assert await stream.receive() == part(b"a", more=True)
    assert await stream.receive() == part(b"b", more=True)
    last = asyncio.ensure_future(stream.receive())
    await settle()
    assert not last.done()
    stream.hear_end()
    assert await last == part(b"", more=False)


async def test_a_body_that_nobody_reads_holds_its_sender_up() -> None:
    stream = World().stream
    for _ in range(10):
        await stream.hear(b"a")
    held = asyncio.ensure_future(stream.hear(b"a"))
    await settle()
    assert not held.done()
    await stream.receive()
    await held


async def test_the_end_is_told_although_nobody_has_read_the_body() -> None:
    stream = World().stream
    for _ in range(10):
        await stream.hear(b"a")
    held = asyncio.ensure_future(stream.hear(b"a"))
    await settle()
    stream.leave()
    async with asyncio.timeout(5):
        assert await stream.receive() == LEFT
        await held


async def test_who_waits_for_more_is_told_that_the_client_has_left() -> None:
    stream = World().stream
    stream.hear_end()
    await stream.receive()
    waiting = asyncio.ensure_future(stream.receive())
    await settle()
    assert not waiting.done()
    stream.leave()
    async with asyncio.timeout(5):
        assert await waiting == LEFT


async def test_a_part_that_comes_after_somebody_gave_up_is_not_lost() -> None:
    stream = World().stream
    waiting = asyncio.ensure_future(stream.receive())
    await settle()
    waiting.cancel()
    await settle()
    await stream.hear(b"late")
    assert await stream.receive() == part(b"late", more=True)


async def test_a_body_is_invited_when_somebody_waits_for_it() -> None:
    world = World()
    await world.stream.hear(b"a")
    await world.stream.receive()
    assert world.protocol.invitations == 0
    waiting = asyncio.ensure_future(world.stream.receive())
    await settle()
    assert world.protocol.invitations == 1
    world.stream.leave()
    await waiting


# --- the answer ----------------------------------------------------------------------------------


async def test_an_answer_in_parts() -> None:
    async def app(send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body"})

    sent = await World().answered(app)
    assert sent == [(200, [(b"a", b"b")], False), (b"a", False), (b"", True)]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_where_no_body_belongs_none_is_sent(method: str, status: int) -> None:
    async def app(send: Send) -> None:
        await send({**START, "status": status})
        await send({"type": "http.response.body", "body": b"a"})

    sent = await World(method).answered(app)
    assert sent[1] == (b"", True)


async def test_who_does_not_answer_is_answered_for() -> None:
    async def app(send: Send) -> None:
        raise RuntimeError

    assert await World().answered(app) == [(500, [(b"content-length", b"0")], True), (b"", True)]


async def test_an_answer_that_breaks_off_is_ended() -> None:
    async def app(send: Send) -> None:
        await send(START)
        raise RuntimeError

    assert (await World().answered(app))[-1] == "end"


async def test_work_that_sends_the_end_of_its_answer_is_not_ended_for_it() -> None:
    world = World()
    ended: list[str] = []

    async def work(send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"a"})
        await asyncio.sleep(0)
        ended.append("well")

    await world.answered(lambda send: unless_gone(world.stream.scope, work(send)))
    assert ended == ["well"]
    assert await world.stream.receive() == LEFT


async def test_who_leaves_in_the_middle_of_an_answer_ends_the_work() -> None:
    world = World()

    async def work(send: Send) -> None:
        await send(START)
        world.stream.leave()
        await asyncio.Event().wait()

    async def app(send: Send) -> None:
        with pytest.raises(ServeError) as raised:
            await unless_gone(world.stream.scope, work(send))
        assert raised.value.code is ErrorCode.CANCELLED

    async with asyncio.timeout(5):
        assert await world.answered(app) == [(200, [(b"a", b"b")], False)]


async def test_nothing_is_sent_to_who_has_left() -> None:
    world = World()

    async def app(send: Send) -> None:
        world.stream.leave()
        await send(START)
        await send({"type": "http.response.body", "body": b"a"})

    assert await world.answered(app) == []


async def test_an_answer_without_a_head_is_a_fault() -> None:
    async def app(send: Send) -> None:
        with pytest.raises(UnexpectedMessageError):
            await send({"type": "http.response.body", "body": b"a"})

    await World().answered(app)

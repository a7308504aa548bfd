"""The outermost layer: ids, counting, refusing while draining."""

import asyncio
import logging

import msgspec
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from mlx_serve_common.logs import request_id, trace_id
from mlx_serve_gateway.http.guard import Guard
from mlx_serve_gateway.lifecycle import Lifecycle
from tests.clock import FakeClock
from tests.unit.gateway.http.asgi import Client, http_scope, response_of


class App:
    """Answers when it may, and remembers what it saw."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.ids: list[str | None] = []
        self.entered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered += 1
        self.ids.append(request_id.get())
        await self.may_answer.wait()
        await PlainTextResponse("fine")(scope, receive, send)


COUNTED: list[tuple[str, int, int]] = []


def count(path: str, status: int, seconds: float, size: int) -> None:
    assert seconds >= 0
    COUNTED.append((path, status, size))


@pytest.fixture
def lifecycle(clock: FakeClock) -> Lifecycle:
    return Lifecycle("me", clock)


async def test_every_answer_carries_an_id_of_its_own(lifecycle: Lifecycle) -> None:
    app = App()
    guard = Guard(app, lifecycle, count)
    ids = [
        (await response_of(guard, http_scope(), Client().receive))["headers"]["x-request-id"]
        for _ in range(3)
    ]

    assert len(set(ids)) == 3
    assert app.ids == ids
    assert request_id.get() is None


async def test_a_clients_own_id_is_kept(lifecycle: Lifecycle) -> None:
    scope = http_scope(headers=[(b"x-request-id", b"mine-1")])
    response = await response_of(Guard(App(), lifecycle, count), scope, Client().receive)

    assert response["headers"]["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", [b"", b"a\x1b[2J", b"x" * 129, "é".encode(), b"a\nb"])
async def test_an_id_that_cannot_stand_in_a_log_is_replaced(
    lifecycle: Lifecycle, given: bytes
) -> None:
    scope = http_scope(headers=[(b"x-request-id", given)])
    response = await response_of(Guard(App(), lifecycle, count), scope, Client().receive)

    assert response["headers"]["x-request-id"].startswith("req-")


async def test_the_trace_of_a_request_is_known_while_it_is_served(lifecycle: Lifecycle) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(trace_id.get())
        await PlainTextResponse("fine")(scope, receive, send)

    guard = Guard(app, lifecycle, count)
    for value in (f"00-{trace}-00f067aa0ba902b7-01", f"00-{trace}-00f067aa0ba902b7-01\x1b[2J"):
        scope = http_scope(headers=[(b"traceparent", value.encode())])
        response = await response_of(guard, scope, Client().receive)
        assert "traceparent" not in response["headers"]
    assert seen == [trace, None]
    assert trace_id.get() is None


async def test_answers_are_not_sniffed_and_not_cached(lifecycle: Lifecycle) -> None:
    response = await response_of(Guard(App(), lifecycle, count), http_scope(), Client().receive)

    assert response["headers"]["x-content-type-options"] == "nosniff"
    assert response["headers"]["cache-control"] == "no-store"


async def test_what_is_in_flight_is_counted(lifecycle: Lifecycle) -> None:
    app = App()
    app.may_answer.clear()
    guard = Guard(app, lifecycle, count)
    requests = [
        asyncio.ensure_future(response_of(guard, http_scope(), Client().receive)) for _ in range(3)
    ]
    await asyncio.sleep(0)
    assert lifecycle.in_flight == 3
    app.may_answer.set()
    await asyncio.gather(*requests)

    assert lifecycle.in_flight == 0


async def test_what_fails_is_counted_out_too(lifecycle: Lifecycle) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await response_of(Guard(failing, lifecycle, count), http_scope(), Client().receive)

    assert lifecycle.in_flight == 0
    assert request_id.get() is None


async def test_while_draining_new_work_is_refused(lifecycle: Lifecycle) -> None:
    lifecycle.is_draining = True
    app = App()
    response = await response_of(Guard(app, lifecycle, count), http_scope(), Client().receive)

    assert response["status"] == 503
    assert response["headers"]["connection"] == "close"
    assert "retry-after" in response["headers"]
    assert "x-request-id" in response["headers"]
    assert msgspec.json.decode(response["body"])["error"]["code"] == "shutting_down"
    assert app.entered == 0
    assert lifecycle.in_flight == 0


@pytest.mark.parametrize("path", ["/", "/health", "/health/detail", "/livez", "/readyz"])
async def test_while_draining_probes_are_answered(lifecycle: Lifecycle, path: str) -> None:
    lifecycle.is_draining = True
    response = await response_of(
        Guard(App(), lifecycle, count), http_scope(path, "GET"), Client().receive
    )

    assert response["status"] == 200


async def test_refusals_are_logged_with_their_status(
    lifecycle: Lifecycle, caplog: pytest.LogCaptureFixture
) -> None:
    lifecycle.is_draining = True
    with caplog.at_level(logging.INFO):
        await response_of(Guard(App(), lifecycle, count), http_scope(), Client().receive)

    assert "POST /v1/embeddings 503" in caplog.text


async def test_what_is_not_http_is_passed_on(lifecycle: Lifecycle) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def send(message: object) -> None:
        raise AssertionError(message)

    await Guard(app, lifecycle, count)({"type": "lifespan"}, Client().receive, send)
    assert seen == ["lifespan"]


async def test_every_answer_is_counted_with_what_was_read_for_it(lifecycle: Lifecycle) -> None:
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await PlainTextResponse("no", 404)(scope, receive, send)

    COUNTED.clear()
    scope = http_scope("/v1/embeddings")
    await response_of(Guard(reading, lifecycle, count), scope, Client(b"12345").receive)
    lifecycle.is_draining = True
    await response_of(Guard(reading, lifecycle, count), scope, Client(b"12345").receive)

    assert COUNTED == [("/v1/embeddings", 404, 5), ("/v1/embeddings", 503, 0)]


async def test_who_has_an_answer_finds_it_counted(lifecycle: Lifecycle) -> None:
    async def in_pieces(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    COUNTED.clear()
    counted_when_sent: list[int] = []

    async def send(message: Message) -> None:
        counted_when_sent.append(len(COUNTED))

    await Guard(in_pieces, lifecycle, count)(http_scope("/x"), Client().receive, send)
    assert counted_when_sent == [0, 0, 1]
    assert COUNTED == [("/x", 200, 0)]


async def response_of_nothing(guard: Guard) -> None:
    async def unheard(message: Message) -> None:
        raise AssertionError(message)

    await guard(http_scope("/x"), Client().receive, unheard)


async def test_an_answer_that_nobody_waited_for_is_counted_as_that(lifecycle: Lifecycle) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    COUNTED.clear()
    await response_of_nothing(Guard(silent, lifecycle, count))
    assert COUNTED == [("/x", 499, 0)]


@pytest.mark.parametrize("path", ["/metrics", "/health", "/livez", "/readyz"])
async def test_probes_are_not_counted(lifecycle: Lifecycle, path: str) -> None:
    COUNTED.clear()
    await response_of(Guard(App(), lifecycle, count), http_scope(path, "GET"), Client().receive)
    assert COUNTED == []

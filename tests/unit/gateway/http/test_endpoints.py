"""Which handler has a request, and who is told of its errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_serve_gateway.http.endpoints import Endpoints
from tests.unit.gateway.http.asgi import Client, http_scope, response_of


class Breaking(Response):
    """Fails in the middle of its answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("broken")


class Late(Response):
    """Fails before its answer begins."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("late")


async def named(request: Request) -> Response:
    return PlainTextResponse(f"named {request.path_params['id']}")


async def fixed(request: Request) -> Response:
    return PlainTextResponse(f"fixed {request.method}")


async def failing(request: Request) -> Response:
    raise ValueError("failed")


async def breaking(request: Request) -> Response:
    return Breaking()


async def late(request: Request) -> Response:
    return Late()


ROUTES = [
    Route("/things/fixed", fixed, methods=["GET"]),
    Route("/things/fixed", failing, methods=["POST"]),
    Route("/things/{id:path}", named, methods=["GET"]),
    Route("/breaking", breaking, methods=["GET"]),
    Route("/late", late, methods=["GET"]),
]


def told(scope: Scope, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return PlainTextResponse(f"{scope['method']} refused", error.status_code, error.headers)
    return PlainTextResponse(str(error), 500)


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    yield


async def asked(path: str, method: str = "GET") -> tuple[int, str]:
    app = Endpoints(ROUTES, lifespan, told)
    response = await response_of(app, http_scope(path, method), Client().receive)
    return response["status"], response["body"].decode()


@pytest.mark.parametrize(
    ("path", "method", "answer"),
    [
        ("/things/fixed", "GET", (200, "fixed GET")),
        ("/things/fixed", "HEAD", (200, "fixed HEAD")),
        ("/things/other", "GET", (200, "named other")),
        ("/things/a/b", "GET", (200, "named a/b")),
        ("/things/fixed", "POST", (500, "failed")),
        ("/late", "GET", (500, "late")),
        ("/things/fixed", "PUT", (405, "PUT refused")),
        ("/breaking/", "GET", (404, "GET refused")),
        ("/nowhere", "GET", (404, "GET refused")),
    ],
)
async def test_a_request_has_its_answer(path: str, method: str, answer: tuple[int, str]) -> None:
    assert await asked(path, method) == answer


async def test_who_may_not_is_told_who_may() -> None:
    app = Endpoints(ROUTES, lifespan, told)
    response = await response_of(app, http_scope("/late", "POST"), Client().receive)
    assert set(response["headers"]["allow"].split(", ")) == {"GET", "HEAD"}


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])

    app = Endpoints(ROUTES, lifespan, told)
    with pytest.raises(ValueError, match="broken"):
        await app(http_scope("/breaking", "GET"), Client().receive, send)
    assert sent == ["http.response.start"]


async def test_the_server_is_told_when_it_may_begin() -> None:
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Message:
        return next(events)

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await Endpoints(ROUTES, lifespan, told)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

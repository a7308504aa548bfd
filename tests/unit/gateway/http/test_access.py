"""Who may do what: the socket and the key decide, for every route that is not for everybody."""

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.config import Config, ServerConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.app import routes
from mlx_serve_gateway.http.access import Access
from tests.store import ModelStore
from tests.unit.gateway.http.asgi import HOST, Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway

KEY = "correct-horse"
OWN_KEY = "left-for-our-own-commands"
STRANGER = ("192.168.1.77", 4000)
NEIGHBOUR = ("127.0.0.1", 4000)
Headers = Sequence[tuple[bytes, bytes]]


def bearer(key: str) -> tuple[bytes, bytes]:
    return (b"authorization", f"Bearer {key}".encode())


async def nothing(request: Request) -> Response:
    return Response()


def refusals(
    server: ServerConfig, client: tuple[str, int] | None, headers: Headers = ()
) -> list[ErrorCode | None]:
    """Why such a caller may not look, and why not change anything; None where it may."""
    access = Access(server, OWN_KEY)
    scope = http_scope(client=client, headers=headers)
    found: list[ErrorCode | None] = []
    for guarded, may in (
        (access.to_look(nothing), access.may_look(scope)),
        (access.to_change(nothing), access.may_change(scope)),
    ):
        try:
            asyncio.run(guarded(Request(scope)))  # type: ignore[arg-type]
            found.append(None)
        except ServeError as error:
            assert KEY not in error.message
            assert OWN_KEY not in error.message
            found.append(error.code)
        assert may is (found[-1] is None)
    return found


def refusal(
    client: tuple[str, int] | None, headers: Headers = (), key: str | None = KEY
) -> ErrorCode | None:
    looking, changing = refusals(ServerConfig(admin_key=key), client, headers)
    assert looking == changing
    return looking


@pytest.mark.parametrize("headers", [(), [bearer("wrong")], [bearer("")], [bearer(KEY)]])
@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_whatever_key_it_sends(
    host: str, key: str | None, headers: Headers
) -> None:
    assert refusal((host, 1), headers, key) is None


@pytest.mark.parametrize("header", [b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip"])
def test_what_came_through_a_proxy_is_not_from_this_machine(header: bytes) -> None:
    told = refusal(NEIGHBOUR, [(header, b"127.0.0.1")])

    assert told is ErrorCode.CONTROL_PLANE_LOCAL_ONLY
    assert refusal(NEIGHBOUR, [(header, b"127.0.0.1"), bearer(KEY)]) is None


def test_a_stranger_without_the_key_may_not() -> None:
    assert refusal(STRANGER) is ErrorCode.CONTROL_PLANE_LOCAL_ONLY
    assert refusal(None) is ErrorCode.CONTROL_PLANE_LOCAL_ONLY
    assert refusal(STRANGER, key=None) is ErrorCode.CONTROL_PLANE_LOCAL_ONLY
    # Clients that need one send any key: without one here it cannot be wrong.
    assert refusal(STRANGER, [bearer("ollama")], None) is ErrorCode.CONTROL_PLANE_LOCAL_ONLY


@pytest.mark.parametrize(
    "headers",
    [
        [bearer(KEY)],
        [(b"authorization", f"bearer  {KEY} ".encode())],
        [(b"authorization", f"BEARER {KEY}".encode())],
    ],
)
def test_a_stranger_with_the_key_may(headers: Headers) -> None:
    assert refusal(STRANGER, headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        [bearer("")],
        [bearer(KEY[:-1])],
        [bearer(KEY + "x")],
        [bearer("é" * 8)],
        [bearer(KEY), bearer(KEY)],
        [bearer("wrong"), bearer(KEY)],
    ],
)
def test_a_wrong_key_is_told_to_be_wrong(headers: Headers) -> None:
    assert refusal(STRANGER, headers) is ErrorCode.INVALID_ADMIN_KEY


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", KEY.encode()),
        (b"authorization", b"Basic " + KEY.encode()),
        (b"x-api-key", KEY.encode()),
    ],
)
def test_the_key_counts_only_where_it_belongs(header: tuple[bytes, bytes]) -> None:
    assert refusal(STRANGER, [header]) is ErrorCode.CONTROL_PLANE_LOCAL_ONLY


PROXIED = [(b"x-forwarded-for", b"127.0.0.1")]
NEEDS_KEY = [ErrorCode.INVALID_ADMIN_KEY] * 2
LOCAL_ONLY = [ErrorCode.CONTROL_PLANE_LOCAL_ONLY] * 2
MAY = [None, None]
OFF = ErrorCode.CONTROL_PLANE_OFF


@pytest.mark.parametrize(
    ("mode", "key", "client", "headers", "expected"),
    [
        ("key", KEY, NEIGHBOUR, [], NEEDS_KEY),
        ("key", KEY, NEIGHBOUR, [bearer("wrong-horse")], NEEDS_KEY),
        ("key", KEY, NEIGHBOUR, [bearer(KEY)], MAY),
        ("key", KEY, STRANGER, [], NEEDS_KEY),
        ("key", KEY, STRANGER, [bearer(KEY)], MAY),
        ("off", None, NEIGHBOUR, [], [None, OFF]),
        ("off", None, NEIGHBOUR, PROXIED, [ErrorCode.CONTROL_PLANE_LOCAL_ONLY, OFF]),
        ("off", None, STRANGER, [], [ErrorCode.CONTROL_PLANE_LOCAL_ONLY, OFF]),
        ("off", KEY, STRANGER, [bearer("wrong-horse")], [ErrorCode.INVALID_ADMIN_KEY, OFF]),
        ("off", KEY, STRANGER, [bearer(KEY)], [None, OFF]),
        ("off", KEY, NEIGHBOUR, [bearer(KEY)], [None, OFF]),
        # Our own commands, also where they reach the server by an address of the network.
        ("loopback", None, STRANGER, [bearer(OWN_KEY)], MAY),
        ("key", KEY, NEIGHBOUR, [bearer(OWN_KEY)], MAY),
        ("off", None, NEIGHBOUR, [bearer(OWN_KEY)], MAY),
    ],
)
def test_the_control_plane_is_as_it_is_set(
    mode: Literal["loopback", "key", "off"],
    key: str | None,
    client: tuple[str, int],
    headers: Headers,
    expected: list[ErrorCode | None],
) -> None:
    server = ServerConfig(control_plane=mode, admin_key=key)
    assert refusals(server, client, headers) == expected


async def test_a_server_without_a_key_for_its_commands_has_none() -> None:
    scope = http_scope(client=STRANGER, headers=[bearer("None"), bearer("")])
    assert not Access(ServerConfig()).may_change(scope)


# --- the routes ----------------------------------------------------------------------------------

OPEN = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/m"),
    ("POST", "/v1/embeddings"),
    ("POST", "/embed"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/tokenize"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions/input_tokens"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/api/version"),
    ("GET", "/api/tags"),
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
]
LOOKING = [
    ("GET", "/health/detail"),
    ("GET", "/health/detail/"),
    ("GET", "/metrics"),
    ("GET", "/admin/events"),
    ("GET", "/api/ps"),
    ("GET", "/api/jobs"),
    ("POST", "/api/show"),
]
CHANGING = [
    ("POST", "/admin/load"),
    ("POST", "/admin/unload"),
    ("POST", "/admin/pin"),
    ("POST", "/admin/unpin"),
    ("POST", "/admin/reload"),
    ("POST", "/admin/drain"),
    ("POST", "/api/pull"),
    ("POST", "/api/pull/"),
    ("POST", "/api/quantize"),
    ("POST", "/api/copy"),
    ("POST", "/api/create"),
    ("POST", "/api/push"),
    ("POST", "/api/blobs/sha256:00"),
    ("DELETE", "/api/delete"),
]
OWNERS_ONLY = [*LOOKING, *CHANGING]


WITH_KEY = ServerConfig(admin_key=KEY)


async def status_and_code(
    store: ModelStore,
    method: str,
    path: str,
    headers: Headers = (),
    server: ServerConfig = WITH_KEY,
) -> tuple[int, str | None]:
    config = Config(server=server)
    app = Gateway(store, config).app
    scope = http_scope(path, method, headers, STRANGER)
    response = await response_of(app, scope, Client(b"{}").receive)
    try:
        body = msgspec.json.decode(response["body"])
    except msgspec.DecodeError:
        body = {}
    told = body.get("error") if isinstance(body, dict) else None
    code = told.get("code") if isinstance(told, dict) else body.get("code")
    return response["status"], code


@pytest.mark.parametrize(("method", "path"), OPEN)
async def test_these_are_for_everybody(store: ModelStore, method: str, path: str) -> None:
    store.add("m")
    status, _ = await status_and_code(store, method, path)

    assert status in (200, 400)  # 400: the body is empty


@pytest.mark.parametrize(("method", "path"), OWNERS_ONLY)
async def test_these_are_for_the_owner(store: ModelStore, method: str, path: str) -> None:
    assert await status_and_code(store, method, path) == (403, "control_plane_local_only")
    wrong = await status_and_code(store, method, path, [bearer("wrong-key")])
    assert wrong == (401, "invalid_admin_key")


@pytest.mark.parametrize(("method", "path"), CHANGING)
async def test_off_is_off_for_whatever_changes_something(
    store: ModelStore, method: str, path: str
) -> None:
    off = ServerConfig(admin_key=KEY, control_plane="off")
    told = await status_and_code(store, method, path, [bearer(KEY)], off)
    assert told == (403, "control_plane_off")


@pytest.mark.parametrize(("method", "path"), LOOKING)
async def test_off_still_lets_the_owner_look(store: ModelStore, method: str, path: str) -> None:
    off = ServerConfig(admin_key=KEY, control_plane="off")
    assert await status_and_code(store, method, path, server=off) == (
        403,
        "control_plane_local_only",
    )


async def test_who_has_to_send_a_key_is_told_how(store: ModelStore) -> None:
    app = Gateway(store, Config(server=ServerConfig(admin_key=KEY))).app
    scope = http_scope("/api/ps", "GET", [HOST, bearer("wrong-key")], STRANGER)
    response = await response_of(app, scope, Client().receive)

    assert response["headers"]["www-authenticate"] == "Bearer"


async def test_every_route_is_in_one_of_the_two_lists(store: ModelStore) -> None:
    """A route that is added has to be put into one, by somebody who thinks about it."""
    known = {path.rstrip("/") for _, path in (*OPEN, *OWNERS_ONLY)} | {
        "", "/v1/models/{id:path}", "/api/blobs/{digest:path}",
        "/rerank", "/v1/reranking", "/reranking", "/v2/rerank", "/v1/score", "/score",
        "/chat/completions", "/completions",
        "/tokenize", "/v1/detokenize", "/detokenize", "/decode",
    }  # fmt: skip
    paths = {route.path.rstrip("/") for route in routes(Gateway(store).services)}
    assert paths <= known

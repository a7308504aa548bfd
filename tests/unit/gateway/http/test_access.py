"""Who may do what: the socket and the key decide, for every route that is not for everybody."""

from collections.abc import Sequence

import msgspec
import pytest

from mlx_serve_common.config import Config, ServerConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.app import routes
from mlx_serve_gateway.http.access import Access
from tests.store import ModelStore
from tests.unit.gateway.http.asgi import HOST, Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway

KEY = "correct-horse"
STRANGER = ("192.168.1.77", 4000)
NEIGHBOUR = ("127.0.0.1", 4000)
Headers = Sequence[tuple[bytes, bytes]]


def bearer(key: str) -> tuple[bytes, bytes]:
    return (b"authorization", f"Bearer {key}".encode())


def refusal(
    client: tuple[str, int] | None, headers: Headers = (), key: str | None = KEY
) -> ErrorCode | None:
    access = Access(ServerConfig(admin_key=key))
    scope = http_scope(client=client, headers=headers)
    try:
        access.require_owner(scope)
    except ServeError as error:
        assert not access.is_owner(scope)
        assert KEY not in error.message
        return error.code
    assert access.is_owner(scope)
    return None


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
OWNERS_ONLY = [
    ("GET", "/health/detail"),
    ("GET", "/health/detail/"),
    ("GET", "/metrics"),
    ("POST", "/admin/load"),
    ("POST", "/admin/unload"),
    ("POST", "/admin/pin"),
    ("POST", "/admin/unpin"),
    ("POST", "/admin/reload"),
    ("POST", "/admin/drain"),
    ("GET", "/admin/events"),
    ("GET", "/api/ps"),
    ("GET", "/api/jobs"),
    ("POST", "/api/show"),
    ("POST", "/api/pull"),
    ("POST", "/api/pull/"),
    ("POST", "/api/quantize"),
    ("POST", "/api/copy"),
    ("POST", "/api/create"),
    ("POST", "/api/push"),
    ("POST", "/api/blobs/sha256:00"),
    ("DELETE", "/api/delete"),
]


async def status_and_code(
    store: ModelStore, method: str, path: str, headers: Headers = ()
) -> tuple[int, str | None]:
    config = Config(server=ServerConfig(admin_key=KEY))
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

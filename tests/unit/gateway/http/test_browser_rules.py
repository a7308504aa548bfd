"""What a web page may not do: rebind its name, call from elsewhere, post what needs no asking."""

from collections.abc import Sequence

import msgspec
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mlx_serve_common.config import ServerConfig
from mlx_serve_gateway.http.browser_rules import BrowserRules
from tests.unit.gateway.http.asgi import Client, http_scope, response_of

Headers = Sequence[tuple[bytes, bytes]]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
JSON = (b"content-type", b"application/json")
BODY = (b"content-length", b"2")
LOCAL = (b"origin", b"http://localhost:3000")


class App:
    def __init__(self) -> None:
        self.entered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered += 1
        await PlainTextResponse("fine", headers={"vary": "Accept"})(scope, receive, send)


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes, entered: int) -> None:
        self.status = status
        self.headers = headers
        self.entered = entered
        self._body = body

    @property
    def code(self) -> str:
        return str(msgspec.json.decode(self._body)["error"]["code"])

    @property
    def cors(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if "access-control" in name}


async def ask(
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    path: str = "/v1/models",
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    hostname: str = "Annas-Mac.lan",
) -> Answer:
    app = App()
    config = ServerConfig(allowed_hosts=hosts, allowed_origins=origins)
    rules = BrowserRules(app, config, lambda: hostname)
    response = await response_of(rules, http_scope(path, method, headers), Client().receive)
    return Answer(**response, entered=app.entered)


async def ask_host(*given: str) -> Answer:
    scope = http_scope("/v1/models", "GET")
    scope["headers"] = [(b"host", host.encode("latin-1")) for host in given]
    app = App()
    config = ServerConfig(allowed_hosts=("models.example",))
    rules = BrowserRules(app, config, lambda: "Annas-Mac.lan")
    return Answer(**await response_of(rules, scope, Client().receive), entered=app.entered)


# --- Host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8000", "192.168.1.5:8000", "10.0.0.1", "[::1]", "[::1]:8000",
        "[fe80::1%25en0]:8000", "[::ffff:127.0.0.1]", "localhost", "localhost:8000", "LocalHost",
        "localhost.:8000", "app.localhost", "annas-mac.lan", "Annas-Mac.lan:8000",
        "annas-mac.local", "annas-mac.lan.local", "models.example", "MODELS.example:443",
    ],
)  # fmt: skip
async def test_addresses_and_own_names_are_hosts(host: str) -> None:
    answer = await ask_host(host)

    assert (answer.status, answer.entered) == (200, 1)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "evil.local", "localhost.evil.example",
        "127.0.0.1.nip.io", "127.1", "2130706433", "0x7f000001", ":8000", "", " ", "localhost:",
        "localhost:port", "localhost:80:80", "a@127.0.0.1", "127.0.0.1/evil", "[::1", "::1",
        "annas-mac", ".local", "evilmodels.example", "x.models.example", "127.0.0.1 evil", "[evil]",
        "xn--nxasmq6b", "m\xf6dels.example", "localhost\x00",
    ],
)  # fmt: skip
async def test_any_other_host_is_refused(host: str) -> None:
    answer = await ask_host(host)

    assert (answer.status, answer.code, answer.entered) == (403, "host_not_allowed", 0)


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
async def test_there_has_to_be_exactly_one(hosts: list[str]) -> None:
    assert (await ask_host(*hosts)).code == "host_not_allowed"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/", "/v1/embeddings", "/api/pull", "/no/such/path"])
async def test_every_method_and_every_path_is_judged(method: str, path: str) -> None:
    for header in ((b"host", b"evil.example"), (b"origin", b"https://evil.example")):
        answer = await ask(header, method=method, path=path)
        assert (answer.status, answer.entered, answer.cors) == (403, 0, {})


async def test_a_machine_without_a_name_has_none() -> None:
    scope = http_scope("/", "GET", [(b"host", b".local")])
    rules = BrowserRules(App(), ServerConfig(), lambda: "")
    assert (await response_of(rules, scope, Client().receive))["status"] == 403


# --- Origin and Sec-Fetch ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost", "http://localhost:3000", "https://localhost:3000", "http://127.0.0.1",
        "http://127.0.0.1:8000", "http://[::1]:8000", "https://app.example",
    ],
)  # fmt: skip
async def test_a_local_page_and_an_allowed_one_are_answered_by_name(origin: str) -> None:
    answer = await ask(
        (b"origin", origin.encode()),
        (b"sec-fetch-site", b"cross-site"),
        origins=("https://app.example",),
    )

    assert (answer.status, answer.entered) == (200, 1)
    assert answer.headers["access-control-allow-origin"] == origin
    assert "Origin" in answer.headers["vary"]
    assert "Accept" in answer.headers["vary"]
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert not answer.cors.keys() & {
        "access-control-allow-credentials", "access-control-allow-private-network",
    }  # fmt: skip


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "null", "", "http://localhost.evil.example", "http://localhost@evil",
        "http://127.0.0.1.nip.io", "file://", "https://app.example.evil", "http://app.example",
        "https://app.example:8443", "http://192.168.1.5:8000", "chrome-extension://abc", "*",
        "http://localhost:3000/", "http://localhost:3000, https://evil.example",
    ],
)  # fmt: skip
async def test_any_other_page_is_refused_and_told_nothing(origin: str) -> None:
    answer = await ask((b"origin", origin.encode()), origins=("https://app.example",))

    assert (answer.status, answer.code, answer.entered) == (403, "origin_not_allowed", 0)
    assert answer.cors == {}


async def test_two_origins_are_none() -> None:
    assert (await ask(LOCAL, LOCAL)).code == "origin_not_allowed"


@pytest.mark.parametrize(
    ("site", "status"),
    [
        (b"cross-site", 403), (b"same-site", 403), (b"Cross-Site", 403), (b"same-origin", 200),
        (b"none", 200),
    ],
)  # fmt: skip
async def test_a_page_that_hides_its_origin_is_told_by_its_browser(
    site: bytes, status: int
) -> None:
    assert (await ask((b"sec-fetch-site", site))).status == status


async def test_no_page_gets_no_cors_header() -> None:
    assert (await ask()).cors == {}


async def test_asking_first_is_answered_without_the_application() -> None:
    asked = (b"access-control-request-method", b"POST")
    wanted = (b"access-control-request-headers", b"authorization, content-type")
    answer = await ask(LOCAL, asked, wanted, method="OPTIONS", path="/v1/embeddings")

    assert (answer.status, answer.entered) == (204, 0)
    assert answer.cors == {
        "access-control-allow-origin": "http://localhost:3000",
        "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "600",
    }


@pytest.mark.parametrize("wanted", [b"*", b"x" * 2000, b"a\tb", b"a;b", b""])
async def test_odd_header_names_are_not_echoed(wanted: bytes) -> None:
    asked = (b"access-control-request-method", b"POST")
    headers = (b"access-control-request-headers", wanted)
    answer = await ask(LOCAL, asked, headers, method="OPTIONS")

    assert "access-control-allow-headers" not in answer.cors


# --- bodies --------------------------------------------------------------------------------------

PAGES = [LOCAL, (b"referer", b"http://localhost"), (b"cookie", b"a=b"), (b"sec-fetch-mode", b"x")]
NOT_JSON = [
    [],
    [(b"content-type", b"text/plain")],
    [(b"content-type", b"application/x-www-form-urlencoded")],
    [(b"content-type", b"text/plain; application/json")],
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("headers", NOT_JSON)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_page_has_to_send_json(
    page: tuple[bytes, bytes], headers: Headers, method: str
) -> None:
    answer = await ask(page, BODY, *headers, method=method)

    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    chunked = (b"transfer-encoding", b"chunked")
    assert (await ask(page, chunked, *headers, method=method)).status == 415


@pytest.mark.parametrize("page", PAGES)
async def test_json_of_a_page_and_no_body_at_all_are_fine(page: tuple[bytes, bytes]) -> None:
    assert (await ask(page, BODY, JSON, method="POST")).status == 200
    charset = (b"content-type", b"Application/JSON; charset=utf-8")
    assert (await ask(page, BODY, charset, method="POST")).status == 200
    assert (await ask(page, method="POST")).status == 200


@pytest.mark.parametrize("headers", NOT_JSON)
async def test_programs_may_leave_the_type_out(headers: Headers) -> None:
    assert (await ask(BODY, *headers, method="POST")).status == 200


async def test_what_is_not_http_is_passed_on() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def send(message: object) -> None:
        raise AssertionError(message)

    await BrowserRules(app, ServerConfig())({"type": "lifespan"}, Client().receive, send)
    assert seen == ["lifespan"]

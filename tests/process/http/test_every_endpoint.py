"""What holds for whatever is asked: every path, every method, also those that there are not."""

import itertools

import pytest

from mlx_serve_gateway.http.contract.table import ENDPOINTS
from tests.process.gateways import Gateway

pytestmark = pytest.mark.process

PATHS = sorted({path.replace("{id}", "m") for each in ENDPOINTS for path in each.paths} | {"/no"})
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MADE-UP"]
POSTED = sorted((each.method, path) for each in ENDPOINTS if each.body for path in each.paths)
JSON = {"Content-Type": "application/json"}
PAGES = {
    "a foreign page": {"Origin": "https://evil.example"},
    "a page without a name": {"Origin": "null"},
    "a page that hides": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a page that has rebound its name": {"Host": "evil.example"},
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_web_page_can_do_nothing(gateway: Gateway, page: dict[str, str]) -> None:
    for path, method in itertools.product(PATHS, METHODS):
        answer = gateway.ask(method, path, b"{}", {**JSON, **page})
        assert answer.status == 403, (method, path, answer)
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_local_page_has_to_say_that_it_sends_json(gateway: Gateway, media_type: str) -> None:
    page = {"Origin": "http://localhost:3000", "Content-Type": media_type}
    for method, path in POSTED:
        assert gateway.ask(method, path, b"{}", page).status == 415, path


def test_a_local_page_may_ask_first(gateway: Gateway) -> None:
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    for path in PATHS:
        answer = gateway.ask("OPTIONS", path, None, asked)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "access-control-allow-credentials" not in answer.headers


def test_every_answer_is_safe_to_hand_to_a_browser(gateway: Gateway) -> None:
    for path, method in itertools.product(PATHS, ("HEAD", "PUT", "OPTIONS")):
        answer = gateway.ask(method, path)
        assert answer.status < 500
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "x-request-id" in answer.headers
        assert "server" not in answer.headers


# --- bodies --------------------------------------------------------------------------------------

DEEP = 30_000
NOT_JSON = {
    "nothing": b"",
    "lists without an end": b"[" * DEEP,
    "lists": b"[" * DEEP + b"]" * DEEP,
    "lists in a field": b'{"model":"m","x":' + b"[" * (DEEP - 20) + b"]" * (DEEP - 20) + b"}",
    "objects": b'{"x":' * 9_000 + b"1" + b"}" * 9_000,
    "NaN": b'{"model":"m","temperature":NaN}',
    "Infinity": b'{"model":"m","temperature":-Infinity}',
    "half a character": b'{"model":"\\ud800"}',
    "half a character in a key": b'{"\\udfff":1,"model":"m"}',
    "no UTF-8": b'{"model":"\xff"}',
    "a NUL": b'{"model":"m"}\0',
}
ODD = {
    "a list": b"[]",
    "a number": b"1e400",
    "a huge number": b'{"model":1' + b"0" * 5000 + b"}",
    "a huge number elsewhere": b'{"model":"nope","x":1' + b"0" * 5000 + b"}",
    "a number beyond all": b'{"model":"nope","top_n":1e999,"temperature":1e999,"seed":-1e999}',
    "a fraction without an end": b'{"model":"nope","temperature":0.' + b"1" * 5000 + b"}",
    "one key twice": b'{"model":"nope","model":"nope","input":1,"input":[]}',
    "many keys": b"{" + b",".join(b'"k%d":1' % number for number in range(9_000)) + b"}",
    "a key without a name": b'{"":1,"model":"nope"}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_told(gateway: Gateway, body: bytes) -> None:
    for method, path in POSTED:
        answer = gateway.ask(method, path, body)
        assert answer.status == 400, (path, answer)


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_odd_json_is_the_clients_mistake(gateway: Gateway, body: bytes) -> None:
    for method, path in POSTED:
        answer = gateway.ask(method, path, body)
        assert answer.status in (400, 404, 413), (path, answer)
        assert b"Traceback" not in answer.body

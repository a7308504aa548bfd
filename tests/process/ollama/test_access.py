"""Who may manage the server, and what a web page may not."""

from typing import Any

import pytest

from tests.process.gateways import Gateway
from tests.process.ollama.asking import KEY, OWNER, STRANGER, ask, go_on, installed, starts
from tests.store import ModelStore

pytestmark = pytest.mark.process


def test_strangers_may_not_manage_and_owners_may(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    store.add(f"{name}-m")
    go_on(store, name)
    wrong = STRANGER | {"Authorization": "Bearer wrong-key"}
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/pull", {"model": f"org/{name}", "stream": False}),
        ("POST", "/api/show", {"model": f"{name}-m"}),
        ("GET", "/api/ps", {}),
        ("GET", "/api/jobs", {}),
        ("GET", "/health/detail", {}),
        ("POST", "/api/copy", {"source": f"{name}-m", "destination": f"{name}-n"}),
        ("DELETE", "/api/delete", {"model": f"{name}-m"}),
    ]
    for method, path, body in requests:
        assert ask(gateway, method, path, STRANGER, **body).status == 403
        assert ask(gateway, method, path, wrong, **body).status == 401
    assert starts(store, name) == 0
    assert set(installed(gateway)) & {name, f"{name}-m", f"{name}-n"} == {f"{name}-m"}
    for method, path, body in requests:
        assert ask(gateway, method, path, OWNER, **body).status == 200, path
    body = {"model": f"{name}-n", "input": "a"}
    assert ask(gateway, "POST", "/api/embed", STRANGER, **body).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Origin": "https://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin_not_allowed"),
    ],
)
def test_a_page_from_elsewhere_can_do_nothing(
    gateway: Gateway, store: ModelStore, name: str, headers: dict[str, str], code: str
) -> None:
    store.add(f"{name}-m")
    for method, path, model in (
        ("GET", "/", ""),
        ("GET", "/api/tags", ""),
        ("POST", "/api/pull", f"org/{name}"),
        ("DELETE", "/api/delete", f"{name}-m"),
        ("OPTIONS", "/v1/embeddings", ""),
        ("POST", "/no/such/path", ""),
    ):
        body = {"model": model} if model else {}
        answer = ask(gateway, method, path, headers, **body)
        assert answer.status == 403
        assert (answer.json.get("code") or answer.json["error"]["code"]) == code
        assert not [header for header in answer.headers if header.startswith("access-control")]
        assert "x-request-id" in answer.headers
    assert f"{name}-m" in installed(gateway)
    assert starts(store, name) == 0


def test_a_page_of_this_machine_is_answered(gateway: Gateway, store: ModelStore, name: str) -> None:
    store.add(name)
    page = {"Origin": "http://localhost:5173", "Content-Type": "application/json"}
    answer = ask(gateway, "POST", "/api/embed", page, model=name, input="a")

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


def test_wrong_keys_lock_nobody_out(gateway: Gateway) -> None:
    for number in range(200):
        wrong = STRANGER | {"Authorization": f"Bearer wrong-{number}"}
        assert gateway.ask("GET", "/api/ps", None, wrong).status == 401

    assert gateway.ask("GET", "/api/ps").status == 200
    assert gateway.ask("GET", "/api/ps", None, OWNER).status == 200
    assert KEY not in gateway.log()

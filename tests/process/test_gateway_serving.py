"""A gateway that serves: OpenAI's shapes, every text its own vector, probes, unknown paths."""

import base64
import secrets
import struct
from collections.abc import Iterator

import psutil
import pytest

from mlx_serve_common.config import Config, ModelsConfig
from mlx_serve_common.models import ModelKind
from mlx_serve_worker.backends.fake import vector
from tests.process.clients import embed_all
from tests.process.gateways import Gateway
from tests.process.homes import Home
from tests.waiting import until

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("m", source="org/m")
        home.store.add("short", max_tokens=4)
        home.store.add("ranker", ModelKind.RERANKER)
        with Gateway(home.path, home.store) as gateway:
            yield gateway


def test_one_text(gateway: Gateway) -> None:
    answer = gateway.embed("m", "hello you")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector("hello you")}],
        "model": "m",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


def test_many_texts_in_their_order(gateway: Gateway) -> None:
    texts = [f"{'word ' * (number % 17)}{number}" for number in range(500)]
    answer = gateway.embed("m", texts)

    assert answer.vectors() == [vector(text) for text in texts]
    assert [item["index"] for item in answer.json["data"]] == list(range(500))
    assert answer.json["usage"]["prompt_tokens"] == sum(len(text.split()) + 2 for text in texts)


def test_base64_holds_the_same_numbers(gateway: Gateway) -> None:
    answer = gateway.embed("m", "hello", encoding_format="base64")

    (item,) = answer.json["data"]
    decoded = struct.unpack("<8f", base64.b64decode(item["embedding"], validate=True))
    assert list(decoded) == vector("hello")


@pytest.mark.parametrize(
    "text",
    ["", " ", "안녕하세요", "👩‍👩‍👧‍👦", "e\u0301", "\x00\x01", '"\\\n\t', "\u2028", "a" * 100_000],
)
def test_any_text(gateway: Gateway, text: str) -> None:
    assert gateway.embed("m", text).vectors() == [vector(text)]


@pytest.mark.parametrize("name", ["m", "M", "org/m", "m:latest"])
def test_any_name_of_the_model(gateway: Gateway, name: str) -> None:
    answer = gateway.embed(name, "hello")

    assert answer.vectors() == [vector("hello")]
    assert answer.json["model"] == "m"


def test_what_clients_add_is_ignored(gateway: Gateway) -> None:
    extras = {"user": "me", "encoding_format": None, "dimensions": None, "x": {"y": [None]}}
    assert gateway.embed("m", "hello", **extras).vectors() == [vector("hello")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain; charset=latin-1"},
        {"Authorization": "Bearer sk-anything"},
        {"Accept-Encoding": "identity"},
    ],
)
def test_headers_of_real_clients_do_no_harm(gateway: Gateway, headers: dict[str, str]) -> None:
    answer = gateway.post({"model": "m", "input": "hello"}, headers)
    assert answer.vectors() == [vector("hello")]


def test_a_trailing_slash_does_no_harm(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/v1/embeddings/", b'{"model":"m","input":"hello"}')
    assert answer.vectors() == [vector("hello")]


async def test_every_caller_gets_its_own_vector(gateway: Gateway) -> None:
    texts = [secrets.token_hex(8) for _ in range(100)]
    answers = await embed_all(gateway, "m", texts)

    assert [answer.vectors() for answer in answers] == [[vector(text)] for text in texts]


def test_what_was_cut_is_told(gateway: Gateway) -> None:
    answer = gateway.embed("short", ["one two", "one two three four five"])

    assert answer.json["truncated_inputs"] == 1
    assert answer.headers["x-truncated-inputs"] == "1"
    assert answer.json["usage"]["prompt_tokens"] == 8
    whole = gateway.embed("short", "one")
    assert "truncated_inputs" not in whole.json
    assert "x-truncated-inputs" not in whole.headers


def test_an_answer_carries_its_id_and_its_time(gateway: Gateway) -> None:
    body = {"model": "m", "input": "hello"}
    answer = gateway.post(body, {"X-Request-Id": "mine"})

    assert answer.headers["x-request-id"] == "mine"
    assert gateway.post(body).headers["x-request-id"].startswith("req-")
    assert float(answer.headers["x-compute-ms"]) >= 0
    assert "server" not in answer.headers


def test_an_idle_worker_is_given_a_request_at_once(gateway: Gateway) -> None:
    gateway.assert_serves("m")
    fastest = min(gateway.embed("m", "hello").took_s for _ in range(20))
    assert fastest < 0.05


# --- models --------------------------------------------------------------------------------------


def test_models_are_listed(gateway: Gateway) -> None:
    for path in ("/v1/models", "/v1/models/"):
        listed = gateway.ask("GET", path).json
        assert listed["object"] == "list"
        by_id = {model["id"]: model for model in listed["data"]}
        assert list(by_id) == ["m", "ranker", "short"]
        assert (
            by_id["m"].items()
            >= {
                "object": "model",
                "created": 1767225600,
                "owned_by": "mlx-serve",
                "type": "embedding",
            }.items()
        )
        assert by_id["ranker"]["type"] == "reranker"


@pytest.mark.parametrize("name", ["m", "org/m", "org%2Fm", "m:latest", "M"])
def test_one_model_is_shown(gateway: Gateway, name: str) -> None:
    assert gateway.ask("GET", f"/v1/models/{name}").json["id"] == "m"


@pytest.mark.parametrize("name", ["x", "org/x", "..%2Fm", "%2e%2e/m", "m%00", "%ff", "a" * 5000])
def test_an_unknown_model_is_not_shown(gateway: Gateway, name: str) -> None:
    answer = gateway.ask("GET", f"/v1/models/{name}")

    assert answer.status in (400, 404)
    assert answer.code in ("model_not_found", "unknown_url", "invalid_request")


# --- probes and paths ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/health", "/livez", "/readyz"])
def test_probes_answer_get_and_head(gateway: Gateway, path: str) -> None:
    got, head = gateway.ask("GET", path), gateway.ask("HEAD", path)

    assert (got.status, head.status) == (200, 200)
    assert got.body != b""
    assert head.body == b""
    assert int(head.headers["content-length"]) > 0


def test_health_says_who_it_is(gateway: Gateway) -> None:
    health = gateway.ask("GET", "/health").json

    assert health["status"] == "ok"
    assert (health["pid"], health["instance"]) == (gateway.pid, gateway.instance)
    assert health["uptime_s"] > 0


def test_health_in_detail_says_what_is_loaded(gateway: Gateway) -> None:
    gateway.assert_serves("m")
    (worker,) = [each for each in gateway.detail()["workers"] if each["model"] == "m"]

    assert worker["state"] == "ready"
    assert worker["pid"] in [process.pid for process in gateway.processes()]
    assert worker["restarts"] == worker["queued"] == worker["in_flight"] == 0
    assert worker["last_success_s"] < 60
    assert worker["memory_bytes"] > 1_000_000


def test_health_in_detail_is_for_this_machine_only(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/health/detail", headers={"X-Forwarded-For": "10.0.0.1"})
    assert (answer.status, answer.code) == (403, "control_plane_local_only")


@pytest.mark.parametrize(
    "path", ["/nope", "/v1", "/v1/embedding", "/v1/embeddings/x", "//", "/%00"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path(gateway: Gateway, method: str, path: str) -> None:
    answer = gateway.ask(method, path)
    assert (answer.status, answer.code) == (404, "unknown_url")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/embeddings", {"POST"}),
        ("DELETE", "/v1/embeddings", {"POST"}),
        ("PUT", "/v1/embeddings", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/health", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method(gateway: Gateway, method: str, path: str, allowed: set[str]) -> None:
    answer = gateway.ask(method, path)

    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_a_worker_holds_nothing_of_the_gateways(gateway: Gateway) -> None:
    """Neither its port, which would stay taken, nor the lifelines of other workers."""
    gateway.assert_serves("m")
    gateway.assert_serves("short")
    for process in gateway.processes():
        connections = process.net_connections()
        assert [each for each in connections if each.status == psutil.CONN_LISTEN] == []
    assert gateway.sentinel().net_connections() == []


# --- what was promised at the start --------------------------------------------------------------


def test_ready_is_said_when_what_was_promised_is_there() -> None:
    with Home() as home:
        home.store.add("slow", load_s=0.5)
        config = Config(models=ModelsConfig(preload=("slow",)))
        with Gateway(home.path, home.store, config) as gateway:
            loading = gateway.ask("GET", "/readyz")
            assert loading.status == 503
            assert "slow: loading" in loading.json["reasons"]
            assert gateway.ask("GET", "/health").status == 200
            until(lambda: gateway.ask("GET", "/readyz").status == 200)


def test_a_broken_promise_is_told_and_the_others_are_kept() -> None:
    with Home() as home:
        home.store.add("good")
        home.store.add("bad", load_error="the weights are cut off")
        config = Config(models=ModelsConfig(preload=("bad", "missing", "good")))
        with Gateway(home.path, home.store, config) as gateway:
            until(lambda: "cut off" in str(gateway.ask("GET", "/readyz").json))
            ready = gateway.ask("GET", "/readyz")
            assert ready.status == 503
            assert "'missing' not found" in str(ready.json["reasons"])
            assert gateway.ask("GET", "/health").json["status"] == "degraded"
            gateway.assert_serves("good")

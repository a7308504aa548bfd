"""What there is, what is loaded, and what is refused, in Ollama's shape."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_gateway.lane_status import LaneStatus
from tests.store import ModelStore
from tests.unit.gateway.http.asgi import Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway, Reply


async def ask(gateway: Gateway, method: str, path: str, body: bytes = b"") -> Reply:
    client = Client(body)
    return Reply(**await response_of(gateway.app, http_scope(path, method), client.receive))


def lane(model: InstalledModel, **more: Any) -> LaneStatus:
    known: dict[str, Any] = {
        "model": model.name, "installed": model, "kind": model.kind, "state": "ready", "pid": 1,
        "pinned": False, "promised": False, "wanted": False, "in_flight": 0, "queued": 0,
        "queue_age_s": 0, "leases": 0, "restarts": 0, "idle_s": 0.0, "expires_in_s": 60.0,
        "device": "cpu", "memory_bytes": 1000, "last_success_s": None, "error": None,
    }  # fmt: skip
    return LaneStatus(**(known | more))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_version_is_one_that_clients_accept(store: ModelStore, method: str) -> None:
    reply = await ask(Gateway(store), method, "/api/version")

    assert reply.status == 200
    if method == "GET":
        major, minor, patch = map(int, reply.json["version"].split("."))
        assert (major, minor, patch) >= (0, 6, 4)


async def test_tags(store: ModelStore) -> None:
    store.add("b", ModelKind.RERANKER)
    store.add("a")
    models = (await ask(Gateway(store), "GET", "/api/tags")).json["models"]

    assert [model["name"] for model in models] == ["a", "b"]
    for model in models:
        assert model["model"] == model["name"]
        assert datetime.fromisoformat(model["modified_at"]).tzinfo is not None
        assert isinstance(model["size"], int)
        assert len(model["digest"]) == 64
        assert model["details"]["family"] == "fake"
    assert [model["type"] for model in models] == ["embedding", "reranker"]


async def test_ps_tells_until_when_and_where(store: ModelStore) -> None:
    gateway = Gateway(store)
    gateway.pool.lanes = [
        lane(store.add("on-gpu"), device="metal"),
        lane(store.add("on-cpu")),
        lane(store.add("stays"), expires_in_s=math.inf),
        lane(store.add("loads", weights_bytes=77), state="loading", device=None, memory_bytes=None),
        lane(store.add("gone"), state="absent"),
    ]
    before = datetime.now(UTC)
    models = {
        model["name"]: model for model in (await ask(gateway, "GET", "/api/ps")).json["models"]
    }

    assert list(models) == ["on-gpu", "on-cpu", "stays", "loads"]
    assert (models["on-gpu"]["size"], models["on-gpu"]["size_vram"]) == (1000, 1000)
    assert (models["on-cpu"]["size"], models["on-cpu"]["size_vram"]) == (1000, 0)
    assert (models["loads"]["size"], models["loads"]["size_vram"]) == (77, 0)
    assert models["on-cpu"]["context_length"] == 512
    expires_at = datetime.fromisoformat(models["on-cpu"]["expires_at"])
    assert before < expires_at - timedelta(seconds=60) + timedelta(seconds=5)
    assert expires_at < datetime.now(UTC) + timedelta(seconds=61)
    stays = datetime.fromisoformat(models["stays"]["expires_at"])
    assert stays > before + timedelta(days=20 * 365)


@pytest.mark.parametrize("body", [b'{"model":"m"}', b'{"name":"m"}', b'{"name":"M:latest"}'])
async def test_show(store: ModelStore, body: bytes) -> None:
    store.add("m", source="org/m")
    shown = (await ask(Gateway(store), "POST", "/api/show", body)).json

    assert shown["model_info"]["fake.embedding_length"] == 8
    assert shown["capabilities"] == ["embedding"]
    assert "FROM org/m" in shown["modelfile"]
    assert None not in shown.values()
    for key in ("template", "parameters", "license"):
        assert isinstance(shown[key], str)
    assert datetime.fromisoformat(shown["modified_at"]).tzinfo is not None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"model":"absent"}', 404, "model_not_found"),
        (b'{"model":"../../etc"}', 404, "model_not_found"),
        (b'{"model":"org/absent"}', 404, "model_not_found"),
        (b"{}", 400, "invalid_request"),
        (b'{"model":""}', 400, "invalid_request"),
        (b'{"model":5}', 400, "invalid_request"),
        (b"", 400, "invalid_json"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/show"), ("DELETE", "/api/delete")])
async def test_what_is_wrong_is_told_as_a_string(
    store: ModelStore, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    store.add("m")
    reply = await ask(Gateway(store), method, path, body)

    assert (reply.status, reply.json["code"]) == (status, code)
    assert isinstance(reply.json["error"], str)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/create"),
        ("POST", "/api/push"),
        ("POST", "/api/blobs/sha256:00"),
        ("HEAD", "/api/blobs/sha256:00"),
    ],
)
async def test_what_there_is_not_is_refused_in_words(
    store: ModelStore, method: str, path: str
) -> None:
    reply = await ask(Gateway(store), method, path, b'{"model":"m"}')

    assert reply.status == 400
    if method != "HEAD":
        assert len(reply.json["error"]) > 20


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("DELETE", 405), ("PUT", 405)])
async def test_other_methods(store: ModelStore, method: str, status: int) -> None:
    reply = await ask(Gateway(store), method, "/api/show")

    assert (reply.status, reply.json["code"]) == (status, "method_not_allowed")
    assert reply.headers["allow"] == "POST"

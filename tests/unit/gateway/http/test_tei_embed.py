"""``/embed``: vectors alone, asked for in the words of text-embeddings-inference."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.models import ModelKind
from tests.store import ModelStore
from tests.unit.gateway.http.computing import Gateway, Reply


@pytest.fixture
def store(store: ModelStore) -> ModelStore:
    model = store.add("m")
    prompted = msgspec.structs.replace(
        model.manifest, name="p", prompts={"query": "Q: ", "document": "D: "}
    )
    store.add_raw("p", msgspec.json.encode(prompted))
    store.add("r", ModelKind.RERANKER)
    return store


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    return Gateway(store)


async def tei(gateway: Gateway, inputs: Any, **fields: Any) -> Reply:
    return await gateway.post("/embed", {"model": "m", "inputs": inputs} | fields)


async def test_tei_answers_vectors_alone(gateway: Gateway) -> None:
    reply = await tei(gateway, ["a", "b"])
    assert reply.json == [[0], [1]]
    assert reply.headers["x-index-fingerprint"]
    assert gateway.pool.part.normalize is True
    assert (await tei(gateway, "a")).json == [[0]]


@pytest.mark.parametrize(
    ("fields", "truncate"),
    [
        ({}, "right"),
        ({"truncate": True}, "right"),
        ({"truncate": True, "truncation_direction": "Left"}, "left"),
        ({"truncation_direction": "Left"}, "left"),
        ({"truncation_direction": "Right"}, "right"),
        ({"truncate": False}, "none"),
        ({"truncate": False, "truncation_direction": "Left"}, "none"),
    ],
)
async def test_tei_truncation(fields: dict[str, Any], truncate: str, gateway: Gateway) -> None:
    assert (await tei(gateway, "a", **fields)).status == 200
    assert gateway.pool.part.truncate == truncate


async def test_tei_wishes(gateway: Gateway) -> None:
    await tei(gateway, "a", normalize=False, dimensions=3)
    assert (gateway.pool.part.normalize, gateway.pool.part.dimensions) == (False, 3)
    gateway.pool.parts.clear()
    await tei(gateway, [[7, 8]])
    assert gateway.pool.part.vocabulary == "model"
    assert (await tei(gateway, "a", prompt_name="nope")).param == "prompt_name"
    gateway.pool.parts.clear()
    await tei(gateway, "a", model="p", prompt_name="query")
    assert gateway.pool.part.prompt == "Q: "


async def test_tei_needs_a_model_where_there_are_several(gateway: Gateway, tmp_path: Path) -> None:
    reply = await gateway.post("/embed", {"inputs": "a"})
    assert (reply.status, reply.param) == (400, "model")
    assert "m, p" in reply.json["error"]["message"]
    alone = ModelStore(tmp_path / "alone")
    alone.add("only")
    assert (await Gateway(alone).post("/embed", {"inputs": "a"})).json == [[0]]

"""What the handlers make of a request, and of what the worker gave them."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import Config, LimitsConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Embed, EmbedTokens
from tests.store import ModelStore
from tests.unit.gateway.http.computing import FIRST_ID, TOKENS_EACH, Gateway, Reply

PATH = "/v1/embeddings"


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


async def embed(gateway: Gateway, given: Any, model: str = "m", **fields: Any) -> Reply:
    return await gateway.post(PATH, {"model": model, "input": given} | fields)


async def test_answer(gateway: Gateway) -> None:
    reply = await embed(gateway, ["a", "b"])
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0]},
            {"object": "embedding", "index": 1, "embedding": [1]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 2 * TOKENS_EACH, "total_tokens": 2 * TOKENS_EACH},
    }
    assert reply.headers["x-compute-ms"] == "250.00"
    assert "x-truncated-inputs" not in reply.headers
    assert gateway.pool.part == Embed([FIRST_ID, FIRST_ID + 1], ["a", "b"], "float", "right")


async def test_what_was_cut_is_told(gateway: Gateway) -> None:
    gateway.pool.truncated = [1, 2]
    reply = await embed(gateway, ["a", "b", "c"])
    assert reply.json["truncated_inputs"] == 2
    assert reply.headers["x-truncated-inputs"] == "2"


@pytest.mark.parametrize(
    ("fields", "encoding"),
    [
        ({}, "float"),
        ({"encoding_format": None}, "float"),
        ({"encoding_format": "float"}, "float"),
        ({"encoding_format": "base64"}, "base64"),
        ({"embedding_type": "base64"}, "base64"),
        ({"embedding_type": ["float"]}, "float"),
        ({"encoding_type": "float"}, "float"),
        ({"encoding_format": "base64", "output_dtype": "float"}, "base64"),
        ({"encoding_format": "base64", "output_dtype": None}, "base64"),
    ],
)
async def test_encoding(fields: dict[str, Any], encoding: str, gateway: Gateway) -> None:
    assert (await embed(gateway, "a", **fields)).status == 200
    assert gateway.pool.part.encoding == encoding


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoding_format", "int8"),
        ("encoding_format", ""),
        ("embedding_type", "ubinary"),
        ("embedding_type", ["float", "binary"]),
        ("encoding_type", "hex"),
        ("output_dtype", "int8"),
        ("late_chunking", True),
    ],
)
async def test_what_is_not_offered_is_refused(name: str, value: Any, gateway: Gateway) -> None:
    reply = await embed(gateway, "a", **{name: value})
    assert (reply.status, reply.code, reply.param) == (400, "unsupported_parameter", name)
    # Also when something else in the request would do.
    reply = await embed(gateway, "a", **({"encoding_format": "float"} | {name: value}))
    assert reply.status == 400
    assert gateway.pool.parts == []


@pytest.mark.parametrize(
    ("fields", "dimensions"),
    [
        ({"dimensions": 5}, 5),
        ({"dimensions": 1}, 1),
        ({"dimensions": 8}, None),
        ({"dimensions": None}, None),
        ({"output_dimension": 5}, 5),
        ({"dimensions": 4, "output_dimension": 5}, 4),
    ],
)
async def test_dimensions(fields: dict[str, Any], dimensions: int | None, gateway: Gateway) -> None:
    assert (await embed(gateway, "a", **fields)).status == 200
    assert gateway.pool.part.dimensions == dimensions


@pytest.mark.parametrize("wanted", [0, -1, 9, 2**70])
async def test_dimensions_that_the_model_has_not(wanted: int, gateway: Gateway) -> None:
    reply = await embed(gateway, "a", dimensions=wanted)
    assert (reply.status, reply.param) == (400, "dimensions")


async def test_truncation(store: ModelStore, gateway: Gateway) -> None:
    for fields, truncate in (
        ({}, "right"),
        ({"truncate": "START"}, "left"),
        ({"truncate": False}, "none"),
        ({"truncation": False}, "none"),
        ({"truncate": True, "truncation": False}, "right"),
    ):
        gateway.pool.parts.clear()
        await embed(gateway, "a", **fields)
        assert gateway.pool.part.truncate == truncate
    refusing = Gateway(store, Config(limits=LimitsConfig(truncate="none")))
    await embed(refusing, "a")
    assert refusing.pool.part.truncate == "none"
    assert (await embed(gateway, "a", truncate="middle")).param == "truncate"


async def test_prompts(gateway: Gateway) -> None:
    for fields, prompt in (
        ({}, None),
        ({"input_type": "query"}, "Q: "),
        ({"prompt_name": "document"}, "D: "),
        ({"prompt": "mine"}, "mine"),
        ({"task": "retrieval.passage"}, "D: "),
    ):
        gateway.pool.parts.clear()
        await embed(gateway, "a", "p", **fields)
        assert gateway.pool.part.prompt == prompt
    reply = await embed(gateway, "a", "p", prompt_name="nope")
    assert (reply.status, reply.param) == (400, "prompt_name")


async def test_normalizing(gateway: Gateway) -> None:
    for wanted in (None, True, False):
        gateway.pool.parts.clear()
        await embed(gateway, "a", normalized=wanted)
        assert gateway.pool.part.normalize is wanted


async def test_token_ids(store: ModelStore, gateway: Gateway) -> None:
    await embed(gateway, [[1, 2], [3]])
    assert gateway.pool.part == EmbedTokens(
        [FIRST_ID, FIRST_ID + 1], [[1, 2], [3]], "cl100k_base", "float", "right"
    )
    gateway.pool.parts.clear()
    await embed(gateway, [1, 2], token_input="model")
    assert gateway.pool.part.tokens == [[1, 2]]
    assert gateway.pool.part.vocabulary == "model"
    configured = Gateway(store, Config(limits=LimitsConfig(token_input="model")))
    await embed(configured, [1, 2])
    assert configured.pool.part.vocabulary == "model"
    assert (await embed(gateway, [1], token_input="gpt2")).param == "token_input"


async def test_fingerprint_tells_what_the_vectors_are(gateway: Gateway) -> None:
    seen = {
        (await embed(gateway, "a", "p", **fields)).headers["x-index-fingerprint"]
        for fields in (
            {},
            {"input_type": "query"},
            {"input_type": "document"},
            {"dimensions": 4},
            {"normalized": True},
        )
    }
    assert len(seen) == 5
    plain = await embed(gateway, "a", "m")
    model = gateway.registry.find("m")
    assert plain.headers["x-index-fingerprint"] == index_fingerprint(model.manifest)


async def test_a_worker_refusal_reaches_the_client(gateway: Gateway) -> None:
    gateway.pool.refusal = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long", param="input")
    reply = await embed(gateway, "a")
    assert (reply.status, reply.code, reply.param) == (400, "context_length_exceeded", "input")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "a"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": None}, "input"),
        ({"model": "m", "input": 5}, "input"),
        ({"model": 5, "input": "a"}, "model"),
        ({"model": "m", "input": "a", "dimensions": "5"}, "dimensions"),
        ({"model": "m", "input": "a", "dimensions": 1.5}, "dimensions"),
        ({"model": "m", "input": "a", "prompt": 5}, "prompt"),
        ({"model": "m", "input": "a", "normalized": "yes"}, "normalized"),
        ({"model": "m", "input": "a", "truncate": 5}, "truncate"),
    ],
)
async def test_wrong_types_name_the_field(body: Any, param: str, gateway: Gateway) -> None:
    reply = await gateway.post(PATH, body)
    assert (reply.status, reply.code, reply.param) == (400, "invalid_request", param)


async def test_model_must_be_an_installed_embedding_model(gateway: Gateway) -> None:
    assert (await embed(gateway, "a", "nope")).status == 404
    assert (await embed(gateway, "a", "")).status == 404
    reply = await embed(gateway, "a", "r")
    assert (reply.status, reply.code) == (400, "model_type_mismatch")


async def test_unknown_fields_are_ignored(gateway: Gateway) -> None:
    assert (await embed(gateway, "a", user="me", anything={"deep": [1]})).status == 200

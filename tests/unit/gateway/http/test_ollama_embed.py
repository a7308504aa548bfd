"""/api/embed and /api/embeddings: inputs, wishes, durations, keep_alive; also on /v1."""

import math
from time import monotonic
from typing import Any

import pytest

from mlx_serve_common.config import Config, LimitsConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Embed, Tokenize
from tests.store import ModelStore
from tests.unit.gateway.http.computing import Gateway, Reply


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m")
    store.add("r", ModelKind.RERANKER)
    return Gateway(store)


async def embed(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/api/embed", {"model": "m"} | body)


async def test_vectors_in_order_with_durations(gateway: Gateway) -> None:
    reply = await embed(gateway, input=["a", "b"])

    assert reply.status == 200
    assert set(reply.json) == {
        "model", "embeddings", "total_duration", "load_duration", "prompt_eval_count",
    }  # fmt: skip
    assert reply.json["model"] == "m"
    assert reply.json["embeddings"] == [[0], [1]]
    assert reply.json["prompt_eval_count"] == 6
    assert isinstance(reply.json["total_duration"], int)
    assert reply.json["total_duration"] > reply.json["load_duration"] == 0
    assert gateway.pool.part.texts == ["a", "b"]


async def test_a_load_is_told_in_nanoseconds(gateway: Gateway) -> None:
    gateway.pool.ready_since = monotonic() + 2
    reply = await embed(gateway, input="a")

    assert 1_000_000_000 < reply.json["load_duration"] <= 2_000_000_000


async def test_the_vectors_are_those_of_v1(gateway: Gateway) -> None:
    await embed(gateway, input="a")
    await gateway.post("/v1/embeddings", {"model": "m", "input": "a"})
    one, other = gateway.pool.parts

    assert one == other


@pytest.mark.parametrize("more", [{}, {"input": ""}, {"input": []}, {"input": None}])
async def test_nothing_to_embed_loads_the_model(gateway: Gateway, more: dict[str, Any]) -> None:
    reply = await embed(gateway, **more)

    assert (reply.status, reply.json["embeddings"]) == (200, [])
    assert reply.json["prompt_eval_count"] == 0
    assert isinstance(gateway.pool.part, Tokenize)


async def test_nothing_to_embed_and_no_time_to_stay_lets_it_go(gateway: Gateway) -> None:
    reply = await embed(gateway, keep_alive=0)

    assert (reply.status, reply.json["embeddings"]) == (200, [])
    assert gateway.pool.parts == []
    assert gateway.pool.unloaded == ["m"]


async def test_an_empty_text_among_others_is_a_text(gateway: Gateway) -> None:
    assert (await embed(gateway, input=["", "a"])).json["embeddings"] == [[0], [1]]


async def test_what_langchain_sends(gateway: Gateway) -> None:
    nulls = dict.fromkeys(
        [
            "mirostat", "mirostat_eta", "mirostat_tau", "num_ctx", "num_gpu", "num_thread",
            "repeat_last_n", "repeat_penalty", "temperature", "stop", "tfs_z", "top_k", "top_p",
        ]
    )  # fmt: skip
    reply = await embed(
        gateway, input=["a"], options=nulls, keep_alive=None, truncate=None, dimensions=None
    )

    assert reply.status == 200


@pytest.mark.parametrize(
    "given", [5, True, {"a": 1}, [5], [["a"]], ["a", 5], [None]], ids=str
)  # fmt: skip
async def test_other_inputs_are_refused(gateway: Gateway, given: Any) -> None:
    reply = await embed(gateway, input=given)

    assert (reply.status, reply.json["code"]) == (400, "invalid_request")
    assert isinstance(reply.json["error"], str)


@pytest.mark.parametrize(
    ("asked", "sent"), [(None, None), (0, None), (4, 4), (8, None), (9, None), (4096, None)]
)
async def test_dimensions_that_are_not_fewer_change_nothing(
    gateway: Gateway, asked: int | None, sent: int | None
) -> None:
    reply = await embed(gateway, input="a", dimensions=asked)

    assert reply.status == 200
    assert gateway.pool.part.dimensions == sent


async def test_negative_dimensions_are_refused(gateway: Gateway) -> None:
    assert (await embed(gateway, input="a", dimensions=-1)).status == 400


@pytest.mark.parametrize(
    ("asked", "configured", "sent"),
    [
        (None, "right", "right"),
        (True, "right", "right"),
        (True, "none", "right"),
        (None, "none", "none"),
        (False, "right", "none"),
        (True, "left", "left"),
    ],
)
async def test_truncation(
    store: ModelStore, asked: bool | None, configured: Any, sent: str
) -> None:
    store.add("m")
    gateway = Gateway(store, Config(limits=LimitsConfig(truncate=configured)))
    await embed(gateway, input="a", truncate=asked)
    part = gateway.pool.part

    assert isinstance(part, Embed)
    assert part.truncate == sent


async def test_what_is_too_long_is_told_in_ollamas_words(gateway: Gateway) -> None:
    gateway.pool.refusal = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "600 tokens")
    reply = await embed(gateway, input="a", truncate=False)

    assert reply.status == 400
    assert reply.json["error"].startswith("the input length exceeds the context length")


async def test_what_was_cut_is_told(gateway: Gateway) -> None:
    gateway.pool.truncated = [1]
    assert (await embed(gateway, input=["a", "b"])).headers["x-truncated-inputs"] == "1"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "absent", "input": "a"}, 404, "model_not_found"),
        ({"model": "r", "input": "a"}, 400, "model_type_mismatch"),
        ({"model": None, "input": "a"}, 400, "invalid_request"),
        ({"model": "m", "input": "a", "keep_alive": "300"}, 400, "invalid_request"),
        ({"model": "m", "input": "a", "keep_alive": True}, 400, "invalid_request"),
        ({"model": "m", "input": "a", "keep_alive": []}, 400, "invalid_request"),
    ],
)
@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
async def test_errors(
    gateway: Gateway, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    reply = await gateway.post(path, body)

    assert (reply.status, reply.json["code"]) == (status, code)


# --- the older endpoint --------------------------------------------------------------------------


async def test_one_text_one_vector(gateway: Gateway) -> None:
    reply = await gateway.post("/api/embeddings", {"name": "m", "prompt": "a"})

    assert (reply.status, reply.json) == (200, {"embedding": [0]})


@pytest.mark.parametrize("more", [{}, {"prompt": ""}, {"prompt": None}])
async def test_an_empty_prompt_loads_the_model(gateway: Gateway, more: dict[str, Any]) -> None:
    reply = await gateway.post("/api/embeddings", {"model": "m"} | more)

    assert (reply.status, reply.json) == (200, {"embedding": []})
    assert isinstance(gateway.pool.part, Tokenize)


# --- keep_alive ----------------------------------------------------------------------------------

REQUESTS: dict[str, dict[str, Any]] = {
    "/api/embed": {"model": "m", "input": "a"},
    "/api/embeddings": {"model": "m", "prompt": "a"},
    "/v1/embeddings": {"model": "m", "input": "a"},
    "/v1/rerank": {"model": "r", "query": "a", "documents": ["b"]},
    "/rerank": {"model": "r", "query": "a", "texts": ["b"]},
    "/v1/score": {"model": "r", "text_1": "a", "text_2": "b"},
}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize(
    ("given", "seconds"), [("5m", 300), (60, 60), (0, 0), (-1, math.inf), (None, None)]
)
async def test_keep_alive_is_understood_everywhere(
    gateway: Gateway, path: str, given: Any, seconds: float | None
) -> None:
    reply = await gateway.post(path, REQUESTS[path] | {"keep_alive": given})

    assert reply.status == 200
    assert gateway.pool.ttl_s == seconds


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_keep_alive_that_is_none_is_refused_before_anything_is_computed(
    gateway: Gateway, path: str
) -> None:
    reply = await gateway.post(path, REQUESTS[path] | {"keep_alive": "soon"})

    assert reply.status == 400
    assert "keep_alive" in reply.body.decode()
    assert gateway.pool.parts == []

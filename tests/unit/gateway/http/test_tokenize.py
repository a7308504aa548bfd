"""One computation in our shape and in those of vLLM, llama.cpp and TEI."""

from typing import Any

import pytest

from mlx_serve_common.config import Config, LimitsConfig
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.http.tokenize import MAX_CHARACTERS
from tests.store import ModelStore
from tests.unit.gateway.http.computing import Gateway, Reply


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m")
    return Gateway(store)


async def ours(gateway: Gateway, given: Any, **fields: Any) -> Reply:
    return await gateway.post("/v1/tokenize", {"model": "m", "input": given} | fields)


async def test_our_own_shape(gateway: Gateway) -> None:
    reply = await ours(gateway, ["a", ""])
    assert reply.json == {
        "data": [
            {"index": 0, "tokens": 2, "token_ids": [5, 6]},
            {"index": 1, "tokens": 2, "token_ids": [5, 6]},
        ],
        "model": "m",
    }
    assert gateway.pool.part.texts == ["a", ""]
    assert (gateway.pool.part.special, gateway.pool.part.pieces) == (True, False)


async def test_special_tokens_may_be_declined(gateway: Gateway) -> None:
    for wanted, special in ((None, True), (True, True), (False, False)):
        gateway.pool.parts.clear()
        await ours(gateway, "a", add_special_tokens=wanted)
        assert gateway.pool.part.special is special


async def test_vllm(gateway: Gateway) -> None:
    reply = await gateway.post("/tokenize", {"model": "m", "prompt": "a"})
    assert reply.json == {"count": 2, "max_model_len": 512, "tokens": [5, 6], "token_strs": None}
    gateway.pool.parts.clear()
    reply = await gateway.post("/tokenize", {"prompt": "a", "return_token_strs": True})
    assert reply.json["token_strs"] == ["[X]", "##a"]
    assert gateway.pool.part.pieces


async def test_llama_cpp(gateway: Gateway) -> None:
    reply = await gateway.post("/tokenize", {"content": "a"})
    assert reply.json == {"tokens": [5, 6]}
    assert gateway.pool.part.special is False
    gateway.pool.parts.clear()
    fields = {"content": "a", "add_special": True, "with_pieces": True}
    reply = await gateway.post("/tokenize", fields)
    assert reply.json == {"tokens": [{"id": 5, "piece": "[X]"}, {"id": 6, "piece": "a"}]}
    assert gateway.pool.part.special is True


async def test_tei(gateway: Gateway) -> None:
    token = {"id": 6, "text": "a", "special": False, "start": 0, "stop": 1}
    special = {"id": 5, "text": "[X]", "special": True, "start": None, "stop": None}
    reply = await gateway.post("/tokenize", {"inputs": ["a", "b"]})
    assert reply.json == [[special, token]] * 2
    assert (await gateway.post("/tokenize", {"inputs": "a"})).json == [[special, token]]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "invalid_request"),
        ({"input": []}, "input", "empty_input"),
        ({"input": [5]}, "input", "invalid_request"),
        ({"input": ["a"] * 5}, "input", "too_many_inputs"),
        ({"inputs": []}, "inputs", "empty_input"),
        ({"prompt": 5}, "prompt", "invalid_request"),
        ({"content": "x" * (MAX_CHARACTERS + 1)}, "content", "context_length_exceeded"),
        ({"messages": []}, "model", "invalid_request"),
        ({"content": "a", "parse_special": False}, "parse_special", "unsupported_parameter"),
        ({"inputs": "a", "prompt_name": "query"}, "prompt_name", "unsupported_parameter"),
    ],
)
async def test_refusals(body: Any, param: str, code: str, store: ModelStore) -> None:
    store.add("m")
    gateway = Gateway(store, Config(limits=LimitsConfig(max_inputs=4)))
    reply = await gateway.post("/tokenize", body)
    assert (reply.status, reply.code, reply.param) == (400, code, param)
    assert gateway.pool.parts == []


async def test_a_name_is_needed_where_there_are_several(store: ModelStore) -> None:
    store.add("m")
    store.add("r", ModelKind.RERANKER)
    gateway = Gateway(store)
    assert (await gateway.post("/tokenize", {"prompt": "a"})).param == "model"
    assert (await gateway.post("/tokenize", {"prompt": "a", "model": "r"})).status == 200
    assert (await gateway.post("/tokenize", {"prompt": "a", "model": "x"})).status == 404


# --- and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tokens", "token_ids", "ids"])
async def test_ids_to_texts(name: str, gateway: Gateway) -> None:
    reply = await gateway.post("/v1/detokenize", {"model": "m", name: [[1, 2], [3]]})
    texts = [{"index": 0, "text": "1-2"}, {"index": 1, "text": "3"}]
    assert reply.json == {"data": texts, "model": "m"}
    reply = await gateway.post("/v1/detokenize", {"model": "m", name: [1, 2]})
    assert reply.json["data"] == [{"index": 0, "text": "1-2"}]


async def test_vllm_and_llama_cpp_read_their_own_key(gateway: Gateway) -> None:
    reply = await gateway.post("/detokenize", {"tokens": [1, 2]})
    assert reply.json == {"prompt": "1-2", "content": "1-2"}
    assert (await gateway.post("/detokenize", {"tokens": []})).json["content"] == ""
    reply = await gateway.post("/detokenize", {"tokens": [[1], [2]]})
    assert (reply.status, reply.param) == (400, "tokens")


async def test_special_tokens_are_kept_except_by_tei(gateway: Gateway) -> None:
    for path, wanted, skips in (
        ("/v1/detokenize", None, False),
        ("/v1/detokenize", True, True),
        ("/detokenize", None, False),
        ("/decode", None, True),
        ("/decode", False, False),
    ):
        gateway.pool.parts.clear()
        await gateway.post(path, {"ids": [1], "skip_special_tokens": wanted})
        assert gateway.pool.part.skip_special is skips
    assert (await gateway.post("/decode", {"ids": [[1], [2, 3]]})).json == ["1", "2-3"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tokens"),
        ({"tokens": "a"}, "tokens"),
        ({"tokens": [1, [2]]}, "tokens"),
        ({"tokens": [True]}, "tokens"),
        ({"tokens": [-1]}, "tokens"),
        ({"ids": [[2**32]]}, "ids"),
        ({"tokens": [2**70]}, "tokens"),
        ({"tokens": [1.5]}, "tokens"),
        ({"tokens": [[1]] * 5}, "tokens"),
    ],
)
async def test_ids_that_are_none(body: Any, param: str, store: ModelStore) -> None:
    store.add("m")
    gateway = Gateway(store, Config(limits=LimitsConfig(max_inputs=4)))
    for path in ("/v1/detokenize", "/decode"):
        reply = await gateway.post(path, body)
        assert (reply.status, reply.param) == (400, param)
    assert gateway.pool.parts == []

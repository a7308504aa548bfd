"""Whatever is sent, the answer is a good one or a client's error, and the worker lives."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.engine import tiny
from tests.engine.models import from_base64
from tests.process.gateways import Answer, Gateway

pytestmark = [pytest.mark.process, pytest.mark.engine]

MODELS = ("plain", "prompted")
SWEEP = settings(
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# json.dumps writes a lone surrogate as an escape: valid JSON, and no text.
any_text = st.text(st.characters(), max_size=200)
odd_text = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "\ud83d",
        "\udc00\ud800",
        "\ufeff\u200b\u2060",
        "e\u0301" * 100,
        "\u202e desrever",
        "👩‍👩‍👧" * 50,
        "[CLS] [SEP] [PAD] [MASK]",
        "<|endoftext|>",
        "x" * 5000,
        "가" * 5000,
        " " * 5000,
        "\n\r\t\v\f\x1c\x85\u2028",
        "\U0010ffff\ufdd0",
        "\uff11\uff12 \u2177 \ufb01 \u0130 \u1e9e",
        "a b " * 2000,
    ]
)
texts = any_text | odd_text
ids = st.integers(-2, 400) | st.sampled_from(
    [-(2**63), -1, 0, 99_999, 100_256, 100_257, 100_277, 2**31, 2**32 - 1, 2**32, 2**64, 2**200]
)
wrong: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.just({})
)
leaves = texts | ids | wrong
nested = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
inputs = (
    texts
    | st.lists(texts, max_size=6)
    | st.lists(ids, max_size=30)
    | st.lists(st.lists(ids, max_size=30), max_size=6)
    | st.lists(st.fixed_dictionaries({"text": texts}), max_size=3)
    | nested
)
fields = st.fixed_dictionaries(
    {"model": st.sampled_from(MODELS)},
    optional={
        "encoding_format": st.sampled_from(["float", "base64", None, "int8", 5]),
        "dimensions": st.integers(-1, tiny.WIDTH + 1) | st.none() | wrong,
        "truncate": st.sampled_from(["left", "right", "none", True, False, None, "?"]),
        "input_type": st.sampled_from(["query", "document", "classification", None]),
        "prompt": texts,
        "prompt_name": st.sampled_from(["query", "document", "nope", None]),
        "normalized": st.booleans() | st.none(),
        "token_input": st.sampled_from(["model", "cl100k_base", None, "gpt2"]),
        "user": nested,
        "unknown": nested,
    },
)


@pytest.fixture(scope="module")
def pids(gateway: Gateway) -> Iterator[dict[str, int]]:
    for model in MODELS:
        assert gateway.embed(model, "loaded").status == 200
    before = {model: gateway.worker_pid(model) for model in MODELS}
    yield before
    assert {model: gateway.worker_pid(model) for model in MODELS} == before


def send(gateway: Gateway, path: str, body: Any) -> Answer:
    answer = gateway.ask("POST", path, json.dumps(body).encode())
    assert answer.status in (200, 400), answer
    if answer.status == 400:
        assert answer.code
        assert answer.json["error"]["message"]
    return answer


def numbers(value: Any) -> list[float]:
    found = from_base64(value).tolist() if isinstance(value, str) else value
    assert isinstance(found, list)
    assert found
    assert all(isinstance(number, float) and math.isfinite(number) for number in found)
    return found


@SWEEP
@given(body=fields, given_input=inputs)
@example(body={"model": "plain", "prompt": "x " * 4000}, given_input="a")
@example(body={"model": "plain", "token_input": "model"}, given_input=[[0] * 5000])
@example(body={"model": "plain"}, given_input=[83908] * 20_000)
@example(body={"model": "plain", "truncate": "none", "prompt": "a " * 40}, given_input=["", "b"])
def test_embeddings(
    gateway: Gateway, pids: dict[str, int], body: dict[str, Any], given_input: Any
) -> None:
    answer = send(gateway, "/v1/embeddings", body | {"input": given_input})
    if answer.status != 200:
        return
    is_many = isinstance(given_input, list) and not all(type(each) is int for each in given_input)
    count = len(given_input) if is_many else 1
    assert [item["index"] for item in answer.json["data"]] == list(range(count))
    for item in answer.json["data"]:
        assert len(numbers(item["embedding"])) == (body.get("dimensions") or tiny.WIDTH)
    assert answer.json["usage"]["prompt_tokens"] >= count


@SWEEP
@given(
    name=st.sampled_from(["input", "prompt", "content", "inputs", "messages"]),
    value=inputs,
    more=st.fixed_dictionaries(
        {},
        optional={
            "add_special_tokens": st.booleans() | st.none(),
            "with_pieces": st.booleans(),
            "return_token_strs": st.booleans(),
        },
    ),
)
def test_tokenize(
    gateway: Gateway, pids: dict[str, int], name: str, value: Any, more: dict[str, Any]
) -> None:
    send(gateway, "/tokenize", {"model": "plain", name: value} | more)


@SWEEP
@given(
    path=st.sampled_from(["/v1/detokenize", "/detokenize", "/decode"]),
    name=st.sampled_from(["tokens", "token_ids", "ids"]),
    value=inputs,
)
def test_detokenize(
    gateway: Gateway, pids: dict[str, int], path: str, name: str, value: Any
) -> None:
    send(gateway, path, {"model": "plain", name: value})


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/v1/tokenize", "/v1/detokenize"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"model":"plain","input":"\xff"}',
        b'{"model":"plain","input":' + b"[" * 100_000,
        b'{"model":"plain","input":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"model":"plain","input":NaN}',
        b'{"model":"plain","input":[1e999]}',
        b'{"model":"plain","input":[' + b"9" * 5000 + b"]}",
        b'{"model":"\\ud800","input":"a"}',
        b'{"model":{"a":1},"input":"a"}',
    ],
)
def test_what_is_hardly_json(
    path: str, body: bytes, gateway: Gateway, pids: dict[str, int]
) -> None:
    answer = gateway.ask("POST", path, body)
    assert answer.status == 400
    assert answer.code in ("invalid_json", "invalid_request")


def test_a_megabyte_of_text(gateway: Gateway, pids: dict[str, int]) -> None:
    for text in ("word " * 200_000, "x" * 2**20, " " * 2**20, "가" * 2**18, "\n" * 2**20):
        for truncate in ("left", "right"):
            answer = send(
                gateway, "/v1/embeddings", {"model": "plain", "input": text, "truncate": truncate}
            )
            assert answer.status == 200
            numbers(answer.json["data"][0]["embedding"])


def test_ten_thousand_inputs_are_too_many(gateway: Gateway, pids: dict[str, int]) -> None:
    answer = send(gateway, "/v1/embeddings", {"model": "plain", "input": ["a"] * 10_000})
    assert answer.code == "too_many_inputs"

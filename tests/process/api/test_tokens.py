"""Tokenizing and back through a real server, in every shape."""

from typing import Any

import msgspec
import pytest

from tests.engine.models import golden
from tests.engine.texts import TEXTS
from tests.process.gateways import Answer, Gateway

pytestmark = [pytest.mark.process, pytest.mark.engine]

TEXT = "Hello naïve world"
CLS, SEP = 2, 3


def post(gateway: Gateway, path: str, **body: Any) -> Answer:
    return gateway.ask("POST", path, msgspec.json.encode({"model": "plain"} | body))


@pytest.fixture(scope="module")
def ids(gateway: Gateway) -> list[int]:
    (only,) = post(gateway, "/v1/tokenize", input=TEXT).json["data"]
    token_ids: list[int] = only["token_ids"]
    return token_ids


def test_counts_are_those_of_the_reference(gateway: Gateway) -> None:
    expected = golden("tiny_bert.json", "mean").token_counts
    answer = post(gateway, "/v1/tokenize", input=[*TEXTS.values()])
    assert answer.json["model"] == "plain"
    for item, count in zip(answer.json["data"], expected, strict=True):
        assert item["tokens"] == len(item["token_ids"])
        # A text that is too long is counted whole.
        assert min(item["tokens"], 40) == count


def test_without_special_tokens(gateway: Gateway, ids: list[int]) -> None:
    (item,) = post(gateway, "/v1/tokenize", input=TEXT, add_special_tokens=False).json["data"]
    assert item["token_ids"] == ids[1:-1]
    assert (ids[0], ids[-1]) == (CLS, SEP)


def test_vllm(gateway: Gateway, ids: list[int]) -> None:
    answer = post(gateway, "/tokenize", prompt=TEXT, return_token_strs=True).json
    strings = answer.pop("token_strs")
    assert answer == {"count": len(ids), "max_model_len": 40, "tokens": ids}
    assert (strings[0], strings[-1]) == ("[CLS]", "[SEP]")
    assert "".join(strings[1:-1]).replace("##", "") == "hellonaiveworld"


def test_llama_cpp(gateway: Gateway, ids: list[int]) -> None:
    assert post(gateway, "/tokenize", content=TEXT).json == {"tokens": ids[1:-1]}
    answer = post(gateway, "/tokenize", content=TEXT, add_special=True, with_pieces=True).json
    assert [token["id"] for token in answer["tokens"]] == ids
    assert "".join(token["piece"] for token in answer["tokens"][1:-1]) == "Hellonaïveworld"


def test_tei(gateway: Gateway, ids: list[int]) -> None:
    (tokens,) = post(gateway, "/tokenize", inputs=TEXT).json
    assert [token["id"] for token in tokens] == ids
    assert tokens[0] == {
        "id": CLS, "text": "[CLS]", "special": True, "start": None, "stop": None,
    }  # fmt: skip
    for token in tokens[1:-1]:
        assert not token["special"]
        assert TEXT[token["start"] : token["stop"]] == token["text"]
    both = post(gateway, "/tokenize", inputs=[TEXT, ""], add_special_tokens=False).json
    assert [len(tokens) for tokens in both] == [len(ids) - 2, 0]


def test_back(gateway: Gateway, ids: list[int]) -> None:
    text = "hello naive world"
    whole = f"[CLS] {text} [SEP]"
    answer = post(gateway, "/v1/detokenize", tokens=[ids, ids[1:-1]]).json
    assert [item["text"] for item in answer["data"]] == [whole, text]
    assert post(gateway, "/detokenize", tokens=ids).json == {"prompt": whole, "content": whole}
    assert post(gateway, "/decode", ids=ids).json == [text]
    assert post(gateway, "/decode", ids=[ids], skip_special_tokens=False).json == [whole]


@pytest.mark.parametrize("bad", [-1, 10**6, 2**32, 2**70])
def test_ids_out_of_range(bad: int, gateway: Gateway) -> None:
    body = b'{"model":"plain","tokens":[5,%d]}' % bad
    for path in ("/v1/detokenize", "/detokenize", "/decode"):
        answer = gateway.ask("POST", path, body)
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert str(bad) in answer.json["error"]["message"]


def test_what_cannot_be_tokenized(gateway: Gateway) -> None:
    assert gateway.ask("POST", "/v1/tokenize", b'{"model":"plain","input":"\\ud800"}').status == 400
    answer = post(gateway, "/v1/tokenize", input="x" * (2**20 + 1))
    assert (answer.status, answer.code) == (400, "context_length_exceeded")
    assert post(gateway, "/v1/tokenize", input="a b " * 2**18).json["data"][0]["tokens"] > 2**18

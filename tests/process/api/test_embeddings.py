"""``/v1/embeddings`` and ``/embed`` through a real server: the reference's vectors, as wished."""

from typing import Any

import msgspec
import numpy as np
import pytest

from mlx_serve_worker import openai_tokens
from tests.engine import tiny
from tests.engine.models import Vectors, from_base64, golden
from tests.engine.texts import TEXTS
from tests.process.gateways import Answer, Gateway

pytestmark = [pytest.mark.process, pytest.mark.engine]

ALL = [*TEXTS.values()]
TOLERANCE = 1e-5


def reference(layout: str) -> Vectors:
    return golden("tiny_bert.json", layout).vectors


def vectors(answer: Answer) -> Vectors:
    assert answer.status == 200, answer
    data = answer.json["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    values = [item["embedding"] for item in data]
    return np.stack([from_base64(v) if isinstance(v, str) else np.array(v, "f4") for v in values])


def embed(gateway: Gateway, model: str = "plain", given: Any = ALL, **fields: Any) -> Vectors:
    return vectors(gateway.embed(model, given, **fields))


def assert_close(found: Vectors, expected: Vectors) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def unit(values: Vectors) -> Vectors:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_the_reference_s_vectors(encoding: str | None, gateway: Gateway) -> None:
    assert_close(embed(gateway, encoding_format=encoding), reference("mean"))


def test_one_by_one(gateway: Gateway) -> None:
    for text, expected in zip(ALL, reference("mean"), strict=True):
        assert_close(embed(gateway, given=text), expected[None])


def test_usage_is_what_the_model_read(gateway: Gateway) -> None:
    counts = golden("tiny_bert.json", "mean").token_counts
    answer = gateway.embed("plain", ALL)
    assert answer.json["usage"] == {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    cut = sum(count == 40 for count in counts)
    assert cut > 0
    assert answer.json["truncated_inputs"] == cut
    assert answer.headers["x-truncated-inputs"] == str(cut)


def test_prompts(gateway: Gateway) -> None:
    counts = golden("tiny_bert.json", "prompt").token_counts
    default = gateway.embed("prompted", ALL)
    assert default.json["usage"]["prompt_tokens"] == sum(counts)
    assert_close(vectors(default), reference("prompt"))
    for fields in (
        {"prompt_name": "query"},
        {"input_type": "query"},
        {"task": "retrieval.query"},
        {"prompt": "Represent the text: "},
    ):
        assert_close(embed(gateway, "prompted", **fields), reference("prompt"))
    for fields in ({"input_type": "document"}, {"prompt_name": "document"}, {"prompt": ""}):
        assert_close(embed(gateway, "prompted", **fields), reference("mean"))


def test_dimensions(gateway: Gateway) -> None:
    expected = unit(reference("not-normalized")[:, :5])
    for model in ("plain", "raw"):
        for name in ("dimensions", "output_dimension"):
            assert_close(embed(gateway, model, **{name: 5}), expected)
    assert_close(embed(gateway, dimensions=tiny.WIDTH), reference("mean"))
    for wrong in (0, -1, tiny.WIDTH + 1):
        answer = gateway.embed("plain", "a", dimensions=wrong)
        assert (answer.status, answer.param) == (400, "dimensions")


def test_normalizing(gateway: Gateway) -> None:
    assert_close(embed(gateway, "raw"), reference("not-normalized"))
    assert_close(embed(gateway, "raw", normalized=True), reference("mean"))
    assert_close(embed(gateway, normalized=False), reference("not-normalized"))


def test_truncation(gateway: Gateway) -> None:
    long = TEXTS["long"]
    right = embed(gateway, given=long, truncate="END")
    left = embed(gateway, given=long, truncate="START")
    assert_close(right, embed(gateway, given=long))
    assert np.abs(left - right).max() > 100 * TOLERANCE
    refused = gateway.embed("plain", ["short", long], truncate="none")
    assert (refused.status, refused.code) == (400, "context_length_exceeded")
    assert refused.json["error"]["message"].startswith("input 1: ")
    assert "40 tokens" in refused.json["error"]["message"]


def test_ids_of_cl100k_are_their_text(gateway: Gateway) -> None:
    encode = openai_tokens._encoding().encode
    # What LangChain sends for an empty text is a string.
    texts = [text for text in ALL if text]
    tokens = [encode(text, disallowed_special=()) for text in texts]
    answer = gateway.embed("prompted", tokens)  # type: ignore[arg-type]
    expected = gateway.embed("prompted", texts)
    assert_close(vectors(answer), vectors(expected))
    assert answer.json["usage"] == expected.json["usage"]


def test_the_model_s_own_ids_are_read_as_they_are(gateway: Gateway) -> None:
    body = {"model": "plain", "input": ALL}
    tokenized = gateway.ask("POST", "/v1/tokenize", msgspec.json.encode(body)).json["data"]
    ids = [item["token_ids"] for item in tokenized]
    assert_close(embed(gateway, given=ids, token_input="model"), reference("mean"))
    # Without the special tokens they are another input, one of fewer tokens.
    answer = gateway.embed("plain", ids[0][1:-1], token_input="model")
    assert answer.json["usage"]["prompt_tokens"] == len(ids[0]) - 2
    assert np.abs(vectors(answer) - reference("mean")[:1]).max() > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("ids", "fields", "named"),
    [
        ([5, 10**6], {"token_input": "model"}, "1000000"),
        ([5, -1], {"token_input": "model"}, "-1"),
        ([100256], {}, "100256"),
        ([2**32], {}, "4294967296"),
    ],
)
def test_ids_out_of_range(
    ids: list[int], fields: dict[str, Any], named: str, gateway: Gateway
) -> None:
    answer = gateway.embed("plain", [[5], ids], **fields)  # type: ignore[list-item]
    assert (answer.status, answer.code, answer.param) == (400, "invalid_request", "input")
    assert named in answer.json["error"]["message"]


def test_as_many_inputs_as_openai_takes(gateway: Gateway) -> None:
    texts = [ALL[index % len(ALL)] for index in range(2048)]
    found = embed(gateway, given=texts, encoding_format="base64")
    assert_close(found, np.tile(reference("mean"), (205, 1))[:2048])
    assert gateway.embed("plain", [*texts, "one more"]).code == "too_many_inputs"


def test_tei(gateway: Gateway) -> None:
    def tei(**body: Any) -> Vectors:
        answer = gateway.ask(
            "POST", "/embed", msgspec.json.encode({"model": "plain", "inputs": ALL} | body)
        )
        assert answer.status == 200, answer
        return np.array(answer.json, "f4")

    assert_close(tei(), reference("mean"))
    assert_close(tei(normalize=False), reference("not-normalized"))
    assert_close(tei(model="raw"), reference("mean"))
    assert_close(tei(dimensions=5), unit(reference("mean")[:, :5]))
    assert_close(tei(model="prompted", prompt_name="document"), reference("mean"))
    assert_close(tei(inputs="Hello world"), reference("mean")[:1])


def test_an_index_can_tell_vectors_apart(gateway: Gateway) -> None:
    listed = {
        card["id"]: card["fingerprint"] for card in gateway.ask("GET", "/v1/models").json["data"]
    }
    assert len(set(listed.values())) == len(listed)

    def fingerprint(model: str, **fields: Any) -> str:
        return gateway.embed(model, "a", **fields).headers["x-index-fingerprint"]

    for model, expected in listed.items():
        assert fingerprint(model) == expected
    assert fingerprint("prompted", input_type="query") == listed["prompted"]
    assert fingerprint("prompted", input_type="document") != listed["prompted"]
    assert fingerprint("plain", dimensions=5) != listed["plain"]

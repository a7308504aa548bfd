"""The official openai client, unmodified, against a real model."""

import asyncio
import base64
from collections.abc import Sequence

import numpy as np
import openai
import pytest

from tests.compat.conftest import MODEL
from tests.engine import starter
from tests.engine.models import golden
from tests.process.gateways import Gateway

pytestmark = pytest.mark.compat

TOLERANCE = 1e-5
TEXTS = [f"text {number} about {chr(0xAC00 + number * 37)} 🙂" for number in range(100)]


@pytest.fixture
def client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url(gateway), api_key="any", max_retries=0)


def base_url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/v1"


def worst(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.abs(np.array(one) - np.array(other)).max())


def test_vectors_equal_the_reference(client: openai.OpenAI) -> None:
    expected = golden("starter.json")
    answer = client.embeddings.create(model=MODEL, input=list(starter.TEXTS.values()))
    assert [item.index for item in answer.data] == list(range(len(starter.TEXTS)))
    for item, vector in zip(answer.data, expected.vectors, strict=True):
        assert worst(item.embedding, vector.tolist()) <= TOLERANCE
    assert answer.usage.prompt_tokens == sum(expected.token_counts)


def test_each_of_a_hundred_concurrent_calls_gets_its_own_vector(
    gateway: Gateway, client: openai.OpenAI
) -> None:
    async def all_at_once() -> list[list[float]]:
        async with openai.AsyncOpenAI(
            base_url=base_url(gateway), api_key="any", max_retries=0
        ) as asynchronous:
            answers = await asyncio.gather(
                *(asynchronous.embeddings.create(model=MODEL, input=text) for text in TEXTS)
            )
        return [answer.data[0].embedding for answer in answers]

    together = client.embeddings.create(model=MODEL, input=TEXTS).data
    for vector, item in zip(asyncio.run(all_at_once()), together, strict=True):
        assert worst(vector, item.embedding) <= TOLERANCE
    assert worst(together[0].embedding, together[1].embedding) > 1000 * TOLERANCE


def test_base64_and_float_are_the_same_numbers(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model=MODEL, input="hello", encoding_format="float")
    raw = client.embeddings.with_raw_response.create(
        model=MODEL, input="hello", encoding_format="base64"
    )
    data = raw.http_response.json()["data"][0]["embedding"]
    decoded = np.frombuffer(base64.b64decode(data), "<f4")
    assert np.array_equal(decoded, np.array(floats.data[0].embedding, "<f4"))


def test_a_cut_text_is_reported(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model=MODEL, input=["word " * 400, "short"])
    assert raw.headers["x-truncated-inputs"] == "1"
    body = raw.http_response.json()
    assert body["truncated_inputs"] == 1
    assert body["usage"]["prompt_tokens"] == 256 + 3


def test_models(client: openai.OpenAI) -> None:
    (model,) = [model for model in client.models.list().data if model.id == MODEL]
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "mlx-serve")
    assert model.created > 0
    by_repository = client.models.retrieve(f"sentence-transformers/{MODEL}")
    assert by_repository == model
    assert by_repository.model_extra is not None
    assert by_repository.model_extra["type"] == "embedding"


def test_errors_are_typed(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="no-such-model", input="x")
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as empty:
        client.embeddings.create(model=MODEL, input=[])
    assert empty.value.code == "empty_input"

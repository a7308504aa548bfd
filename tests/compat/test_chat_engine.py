"""The openai client against a real, if tiny, chat model: what only an engine can get right."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.engine.tiny_chat import CONTEXT, install_chat_model
from tests.process.gateways import Gateway
from tests.process.homes import Home

pytestmark = [pytest.mark.compat, pytest.mark.engine]

MODEL = "qwen3"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"enum": ["한국어", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with Home() as home:
        install_chat_model(home.store.models_dir, MODEL)
        with Gateway(home.path, home.store) as gateway:
            url = f"http://127.0.0.1:{gateway.port}/v1"
            with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
                yield client


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def said(client: openai.OpenAI, text: str, **more: Any) -> list[str | None]:
    options = {"max_tokens": 12, "temperature": 0} | more
    answer = client.chat.completions.create(model=MODEL, messages=user(text), **options)
    return [choice.message.content for choice in answer.choices]


def test_a_stream_is_the_whole(client: openai.OpenAI) -> None:
    (whole,) = said(client, "hello")
    stream = client.chat.completions.create(
        model=MODEL, messages=user("hello"), max_tokens=12, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole


def test_a_seed_is_reproducible_alone_and_among_others(client: openai.OpenAI) -> None:
    first, second = said(client, "hello", n=2, seed=7, temperature=1)
    assert said(client, "hello", seed=7, temperature=1) == [first]
    assert said(client, "hello", seed=8, temperature=1) == [second]
    assert first != second


def test_the_second_turn_reads_only_what_is_new(client: openai.OpenAI) -> None:
    text = "a long story " * 40
    first = client.chat.completions.create(model=MODEL, messages=user(text), max_tokens=4)
    history: list[ChatCompletionMessageParam] = [
        *user(text),
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "and then?"},
    ]
    second = client.chat.completions.create(model=MODEL, messages=history, max_tokens=4)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    cached = second.usage.prompt_tokens_details.cached_tokens or 0
    assert first.usage.prompt_tokens - 20 < cached < second.usage.prompt_tokens


def test_counting_is_what_is_read(client: openai.OpenAI) -> None:
    count = client.responses.input_tokens.count(model=MODEL, input="hello").input_tokens
    answer = client.responses.create(model=MODEL, input="hello", max_output_tokens=2)
    assert answer.usage is not None
    assert answer.usage.input_tokens == count


@pytest.mark.parametrize("seed", range(3))
def test_a_schema_is_kept(client: openai.OpenAI, seed: int) -> None:
    (text,) = said(
        client,
        "hello",
        max_tokens=200,
        temperature=1,
        seed=seed,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
    )
    found = json.loads(text or "")
    assert set(found) == {"a", "b"}
    assert found["b"] in ("한국어", "y")


def test_a_tool_that_has_to_be_called_is_called(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=user("q"), max_tokens=200, tools=[TOOL], tool_choice="required"
    )
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert call.type == "function"
    assert set(json.loads(call.function.arguments)) == {"a", "b"}


def test_a_bias_and_likelihoods(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=user("hi"), max_tokens=3, logit_bias={"65": 100},
        logprobs=True, top_logprobs=2,
    )  # fmt: skip
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    tokens = logprobs.content or []
    assert len({token.token for token in tokens}) == 1
    assert all(len(token.top_logprobs) == 2 for token in tokens)


def test_token_ids_are_continued(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=[[1, 2, 3], [4]], max_tokens=2, temperature=0
    )
    assert len(answer.choices) == 2
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 4


def test_a_prompt_that_is_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        said(client, "word " * CONTEXT)
    assert refused.value.code == "context_length_exceeded"
    assert str(CONTEXT) in refused.value.message


def test_a_schema_that_cannot_be_used(client: openai.OpenAI) -> None:
    nonsense = {"name": "s", "schema": {"type": "nonsense"}}
    with pytest.raises(openai.BadRequestError) as refused:
        said(client, "x", response_format={"type": "json_schema", "json_schema": nonsense})
    assert refused.value.param == "response_format"

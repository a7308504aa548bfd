"""Ollama's options: nulls and unknown ones change nothing, the others mean what they do there."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.chat import Sampling
from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.http.ollama_options import OllamaWishes


def sampling(**body: Any) -> Sampling:
    return msgspec.json.decode(msgspec.json.encode(body), type=OllamaWishes).sampling()


def test_all_at_once() -> None:
    options = {
        "num_predict": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1,
        "repeat_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "seed": 42,
        "stop": ["a", "b"], "num_ctx": 4096,
    }  # fmt: skip
    assert sampling(options=options) == Sampling(
        max_tokens=7, temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, repetition_penalty=1.1,
        presence_penalty=0.2, frequency_penalty=0.3, seed=42, stop=["a", "b"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        dict.fromkeys(["num_predict", "temperature", "top_p", "top_k", "seed", "stop", "min_p"]),
        {"mirostat": 1, "tfs_z": 0.5, "num_gpu": 3, "made_up": {"x": []}},
        {"num_predict": -1, "seed": -1, "stop": []},
        {"num_predict": -2, "stop": ""},
        {"num_predict": 0, "stop": [""]},
    ],
)
def test_what_changes_nothing(options: Any) -> None:
    assert sampling(options=options) == Sampling()


def test_whole_numbers_may_have_a_point() -> None:
    told = sampling(options={"num_predict": 128.0, "top_k": 20.0, "seed": 7.0})
    assert (told.max_tokens, told.top_k, told.seed) == (128, 20, 7)
    assert isinstance(told.seed, int)


def test_a_large_seed_is_not_rounded() -> None:
    assert sampling(options={"seed": 2**62 + 1}).seed == 2**62 + 1


def test_a_single_stop() -> None:
    assert sampling(options={"stop": "end"}).stop == ["end"]


def test_zero_is_not_unset() -> None:
    told = sampling(options={"temperature": 0, "top_k": 0, "seed": 0, "top_p": 0})
    assert (told.temperature, told.top_k, told.seed, told.top_p) == (0, 0, 0, 0)
    assert sampling(options={"top_k": -1}).top_k == 0


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": "hot"},
        {"top_p": 1.5},
        {"min_p": -1},
        {"repeat_penalty": 0},
        {"num_predict": 10**30},
        {"seed": 10**30},
        {"stop": [1]},
        [],
    ],
    ids=str,
)
def test_what_is_no_option(options: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        sampling(options=options)


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ("json", '{"type":"object"}'),
        ({"type": "array"}, '{"type":"array"}'),
    ],
)
def test_format(given: Any, schema: str | None) -> None:
    assert sampling(format=given).json_schema == schema


def test_other_formats() -> None:
    with pytest.raises(ServeError, match="format"):
        sampling(format="yaml")


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({}, None),
        ({"top_logprobs": 3}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_logprobs(body: dict[str, Any], wanted: int | None) -> None:
    assert sampling(**body).top_logprobs == wanted


@pytest.mark.parametrize("count", [-1, 21])
def test_too_many_logprobs(count: int) -> None:
    with pytest.raises(ServeError, match="between 0 and 20"):
        sampling(top_logprobs=count)

"""Which of the earlier conversations are kept, and which of them is found."""

from typing import Any

import mlx.core as mx
import pytest

from mlx_serve_worker.chat.kept import Apart, AsItIs
from mlx_serve_worker.chat.prompt_cache import PromptCache
from tests.engine.chat.conversing import layer_classes

pytestmark = pytest.mark.engine

_BYTES_PER_TOKEN = 2 * 4


def conversation(tokens: int) -> list[Any]:
    layer = layer_classes().KVCache()
    layer.keys, layer.values = (mx.ones((1, 1, tokens, 1)) for _ in range(2))
    layer.offset = tokens
    return [layer]


def cache_of(tokens: int) -> PromptCache:
    return PromptCache(tokens * _BYTES_PER_TOKEN, AsItIs)


def tokens(start: int, count: int) -> list[int]:
    return list(range(start, start + count))


def found(prompts: PromptCache, prompt: list[int]) -> int:
    known = prompts.find([*prompt, 0])
    return 0 if known is None else known.tokens


def test_what_was_used_longest_ago_gives_way_to_the_next() -> None:
    prompts = cache_of(100)
    first, second, third = (tokens(1000 * number, 40) for number in (1, 2, 3))
    for each in (first, second):
        prompts.keep(each, conversation(40))
    assert found(prompts, first) == 40
    prompts.keep(third, conversation(40))
    assert [found(prompts, each) for each in (first, second, third)] == [40, 0, 40]
    assert prompts.bytes == 80 * _BYTES_PER_TOKEN


def test_one_that_is_too_long_takes_the_place_of_none() -> None:
    prompts = cache_of(100)
    begun = tokens(1000, 40)
    prompts.keep(begun, conversation(40))
    prompts.keep([*begun, *tokens(2000, 61)], conversation(101))
    assert found(prompts, begun) == 40
    assert prompts.bytes == 40 * _BYTES_PER_TOKEN


def test_one_that_goes_on_replaces_its_beginning() -> None:
    prompts = cache_of(100)
    begun, whole = tokens(1000, 40), tokens(1000, 60)
    prompts.keep(begun, conversation(40))
    prompts.keep(whole, conversation(60))
    assert prompts.bytes == 60 * _BYTES_PER_TOKEN
    assert found(prompts, begun) == 40
    prompts.keep(begun, conversation(40))
    assert prompts.bytes == 60 * _BYTES_PER_TOKEN


def test_what_is_apart_is_told_from_what_mlx_knows_of() -> None:
    for keep in (Apart, AsItIs):
        prompts = PromptCache(2**20, keep)
        prompts.keep(tokens(1000, 40), conversation(40))
        assert prompts.bytes > 0
        assert prompts.bytes_apart == (prompts.bytes if keep is Apart else 0)

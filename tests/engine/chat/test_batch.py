"""When tokens are told of a batch in which answers begin and end at different times."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_serve_worker.chat.batch import Batch, Token
from mlx_serve_worker.chat.loading import Loaded, load
from mlx_serve_worker.chat.member import Member
from mlx_serve_worker.chat.sampling import Sampler

pytestmark = pytest.mark.engine

_PROMPTS = [[5 + (at * step) % 250 for at in range(20 + 7 * step)] for step in range(1, 6)]
_TOKENS = 5


def greedy(logprobs: mx.array) -> mx.array:
    return mx.argmax(logprobs, axis=-1)


@pytest.fixture(scope="module")
def loaded(chat_path: Callable[[str], Path]) -> Loaded:
    return load(chat_path("qwen3"), None)


def batch_of(loaded: Loaded, *, ends: tuple[int, ...] = (), on_cpu: bool = True) -> Batch:
    return Batch(loaded.model, ends=ends, max_sequences=8, prefill_tokens=512, on_cpu=on_cpu)


def member(
    loaded: Loaded, prompt: list[int], max_tokens: int = _TOKENS, sampler: Sampler = greedy
) -> Member:
    return Member(prompt, 0, loaded.make_cache(), max_tokens, sampler, [])


def alone(loaded: Loaded, prompt: list[int]) -> list[int]:
    """What the model says, a whole pass for each token."""
    ids = list(prompt)
    for _ in range(_TOKENS):
        chosen: Any = loaded.model(mx.array([ids]))[0, -1].argmax().item()
        ids.append(chosen)
    return ids[len(prompt) :]


def run(batch: Batch, heard: dict[int, list[Token]], steps: int) -> None:
    for _ in range(steps):
        for token in batch.step()[1]:
            heard[token.key].append(token)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_tokens_are_told_once_and_in_order_whoever_joins(loaded: Loaded, on_cpu: bool) -> None:
    batch = batch_of(loaded, on_cpu=on_cpu)
    heard: dict[int, list[Token]] = defaultdict(list)
    for key, prompt in enumerate(_PROMPTS):
        # Some begin together, and not all are sampled in one go.
        own = (lambda logprobs: greedy(logprobs)) if key == 2 else greedy
        batch.add(key, member(loaded, prompt, sampler=own))
        run(batch, heard, key % 3)
    run(batch, heard, 20)
    for key, prompt in enumerate(_PROMPTS):
        assert [token.id for token in heard[key]] == alone(loaded, prompt), key
        assert [token.is_last for token in heard[key]] == [False] * (_TOKENS - 1) + [True]
    assert len(batch._chosen) <= len(_PROMPTS)  # of one step alone


@pytest.mark.parametrize("on_cpu", [True, False])
def test_tokens_are_told_as_soon_as_they_are_chosen(loaded: Loaded, on_cpu: bool) -> None:
    batch = batch_of(loaded, on_cpu=on_cpu)
    for key, prompt in enumerate(_PROMPTS):
        batch.add(key, member(loaded, prompt))
    said: dict[int, list[int]] = {}
    for _ in range(20):
        progress, told, _ = batch.step()
        said.update({each.key: [] for each in progress if each.done == each.total})
        for token in told:
            ids = _PROMPTS[token.key] + said[token.key]
            whole = loaded.model(mx.array([ids]))[0, -1]
            assert mx.allclose(token.logprobs, whole - mx.logsumexp(whole), atol=1e-4), token.key
            said[token.key].append(token.id)
        new = {each.key for each in progress if each.done == each.total}
        running = {key for key, ids in said.items() if key not in new and len(ids) < _TOKENS}
        # On a GPU the second waits for the third to be begun with.
        assert {token.key for token in told} >= new | (running if on_cpu else set())
    assert [len(said[key]) for key in said] == [_TOKENS] * len(_PROMPTS)


def test_an_answer_of_one_token_is_told_with_its_end(loaded: Loaded) -> None:
    first = alone(loaded, _PROMPTS[0])[0]
    for batch, tokens, is_end in (
        (batch_of(loaded), 1, False),
        (batch_of(loaded, ends=(first,)), _TOKENS, True),
    ):
        batch.add(7, member(loaded, _PROMPTS[0], tokens))
        heard: dict[int, list[Token]] = defaultdict(list)
        run(batch, heard, 4)
        (token,) = heard[7]
        assert (token.id, token.is_end, token.is_last) == (first, is_end, True)


def test_who_leaves_after_the_first_token_has_left_what_was_read(loaded: Loaded) -> None:
    batch = batch_of(loaded)
    for key in (0, 1):
        batch.add(key, member(loaded, _PROMPTS[key]))
    heard: dict[int, list[Token]] = defaultdict(list)
    while not heard:
        run(batch, heard, 1)
    left = batch.remove([0])
    assert left[0].tokens == _PROMPTS[0]
    # Its key is free for another, who begins anew.
    batch.add(0, member(loaded, _PROMPTS[3], max_tokens=1))
    heard.pop(0)
    run(batch, heard, 12)
    assert [token.id for token in heard[0]] == alone(loaded, _PROMPTS[3])[:1]
    assert [token.id for token in heard[1]] == alone(loaded, _PROMPTS[1])


def test_a_generator_that_tells_another_token_is_not_believed(loaded: Loaded) -> None:
    batch = batch_of(loaded)
    batch.add(0, member(loaded, _PROMPTS[0]))
    heard: dict[int, list[Token]] = defaultdict(list)
    while not heard:
        run(batch, heard, 1)
    generator: Any = batch._generator
    whole = generator.next

    def otherwise() -> Any:
        read, said = whole()
        said[0].token += 1
        return read, said

    generator.next = otherwise
    with pytest.raises(RuntimeError, match="another order"):
        batch.step()

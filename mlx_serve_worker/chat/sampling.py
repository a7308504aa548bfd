"""How the next token is chosen from the model's log probabilities.

Invariants: a request's seed decides its tokens whatever else is in the batch; rows that are chosen
alike and without a seed share one sampler, so that they are sampled in one go.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import mlx.core as mx

from mlx_serve_common.chat import Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import GenerationDefaults
from mlx_serve_worker.chat.watched_model import WatchedModel
from mlx_serve_worker.mlx_lm_runtime import apply_min_p, apply_top_k, apply_top_p

Sampler = Callable[[mx.array], mx.array]

_SHARED = 64
# Below, log probabilities divided by it would not all be numbers.
_COLDEST = 1e-6
# So far that the keys of two seeds that follow each other do not meet; odd, so that none is lost.
_FAR_APART = 0x9E3779B97F4A7C15


class Choosing(NamedTuple):
    """The settings that shape the distribution; 0 and 1 are as mlx-lm has them: without effect."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float


def choosing(asked: Sampling, defaults: GenerationDefaults) -> Choosing:
    """What was asked for, then what the model's authors recommend."""
    return Choosing(
        temperature=_within("temperature", asked.temperature, defaults.temperature, 1.0, 0, 10),
        top_p=_within("top_p", asked.top_p, defaults.top_p, 1.0, 0, 1),
        top_k=int(_within("top_k", asked.top_k, defaults.top_k, 0, -1, 2**31)),
        min_p=_within("min_p", asked.min_p, defaults.min_p, 0.0, 0, 1),
    )


class Samplers:
    def __init__(self, model: WatchedModel) -> None:
        self._model = model
        mx.random.seed(int.from_bytes(os.urandom(8)))
        self._shared = lru_cache(_SHARED)(self._make)

    def sampler(self, how: Choosing, seed: int | None) -> Sampler:
        """Without a seed, or with nothing left to chance, the same one for the same settings."""
        # mlx-lm reads a top_p of 0 as without effect; who asks for it wants the likeliest alone.
        if how.temperature < _COLDEST or how.top_p == 0:
            return self._shared(Choosing(0, 1, 0, 0), None)
        if seed is None:
            return self._shared(how, None)
        return self._make(how, _Keys(seed))

    def _make(self, how: Choosing, keys: "_Keys | None") -> Sampler:
        def sample(logprobs: mx.array) -> mx.array:
            if how.temperature == 0:
                tokens = mx.argmax(logprobs, axis=-1)
            else:
                kept = self._kept(how, logprobs) * (1 / how.temperature)
                tokens = mx.random.categorical(kept, key=None if keys is None else keys.next())
            return self._model.watched(logprobs, tokens)

        return sample

    def _kept(self, how: Choosing, logprobs: mx.array) -> mx.array:
        # In mlx-lm's order, and like there before the temperature.
        if 0 < how.top_p < 1:
            logprobs = apply_top_p(logprobs, how.top_p)
        if how.min_p > 0:
            logprobs = apply_min_p(logprobs, how.min_p)
        if 0 < how.top_k < self._model.vocab_size:
            logprobs = apply_top_k(logprobs, how.top_k)
        return logprobs


class _Keys:
    """One key for each token, from a seed."""

    def __init__(self, seed: int) -> None:
        self._key = seed * _FAR_APART

    def next(self) -> mx.array:
        self._key += 1
        return mx.random.key(self._key % 2**64)


def _within(
    name: str,
    asked: float | None,
    recommended: float | None,
    otherwise: float,
    least: float,
    most: float,
) -> float:
    value = next((each for each in (asked, recommended) if each is not None), otherwise)
    if not least <= value <= most:
        message = f"{name} is {value:g}; it has to be between {least:g} and {most:g}"
        raise ServeError(ErrorCode.INVALID_REQUEST, message, param=name)
    return value

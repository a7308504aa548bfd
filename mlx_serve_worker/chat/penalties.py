"""Changes to a row's logits before the next token is chosen.

Invariants: a row depends on its own tokens alone; nothing is read back from the device, so that the
next step can be computed while this one is told.
"""

import math
from collections.abc import Callable

import mlx.core as mx

from mlx_serve_common.chat import Sampling
from mlx_serve_common.errors import ErrorCode, ServeError

Processor = Callable[[mx.array, mx.array], mx.array]
"""From the tokens so far, the prompt's included, and the logits of one row to its new logits."""

_MAX_BIASED = 1024


def processors(asked: Sampling, recommended: float | None, vocab_size: int) -> list[Processor]:
    """``recommended`` is the repetition penalty where none is asked for."""
    repetition = asked.repetition_penalty or recommended or 1.0
    made: list[Processor] = []
    if asked.logit_bias:
        made.append(_bias(asked.logit_bias, vocab_size))
    if repetition != 1.0:
        _check("repetition_penalty", repetition, 0.01, 10)
        made.append(_Repetition(repetition, vocab_size))
    if asked.presence_penalty or asked.frequency_penalty:
        presence = _check("presence_penalty", asked.presence_penalty or 0.0, -2, 2)
        frequency = _check("frequency_penalty", asked.frequency_penalty or 0.0, -2, 2)
        made.append(_Presence(presence, frequency, vocab_size))
    return made


def _bias(wanted: dict[int, float], vocab_size: int) -> Processor:
    for id, bias in wanted.items():
        if not 0 <= id < vocab_size:
            raise _refused(
                f"the token id {id} is outside of the model's vocabulary of {vocab_size}"
            )
        if not math.isfinite(bias):
            raise _refused(f"the bias of the token {id} is no number")
    if len(wanted) > _MAX_BIASED:
        raise _refused(f"up to {_MAX_BIASED} tokens can have a bias, not {len(wanted)}")
    ids, biases = mx.array([*wanted]), mx.array([*wanted.values()])
    return lambda tokens, logits: logits.at[:, ids].add(biases.astype(logits.dtype))


class _Repetition:
    """Makes every token less likely that the prompt or the answer has, as transformers does."""

    def __init__(self, penalty: float, vocab_size: int) -> None:
        self._penalty = penalty
        self._seen = mx.zeros(vocab_size, mx.bool_)
        self._has_prompt = False

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        new = tokens[-1:] if self._has_prompt else tokens
        self._has_prompt = True
        self._seen[mx.minimum(new, self._seen.size - 1)] = True
        less = mx.where(logits > 0, logits / self._penalty, logits * self._penalty)
        return mx.where(self._seen, less, logits)


class _Presence:
    """OpenAI's penalties: for what the answer has, and for how often."""

    def __init__(self, presence: float, frequency: float, vocab_size: int) -> None:
        self._presence = presence
        self._frequency = frequency
        self._counts = mx.zeros(vocab_size)
        self._has_prompt = False

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._has_prompt:
            last = mx.minimum(tokens[-1:], self._counts.size - 1)
            self._counts = self._counts.at[last].add(1)
        self._has_prompt = True
        penalty = self._counts * self._frequency + (self._counts > 0) * self._presence
        return logits - penalty.astype(logits.dtype)


def _check(name: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        message = f"{name} is {value:g}; it has to be between {least:g} and {most:g}"
        raise ServeError(ErrorCode.INVALID_REQUEST, message, param=name)
    return value


def _refused(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, message, param="logit_bias")

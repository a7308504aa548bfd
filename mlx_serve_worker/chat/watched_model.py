"""A language model whose broken outputs can be told by the tokens that are sampled from them.

The next step is computed while a token is told, so whether its row was a number has to be part of
that computation: a row that is none yields the token ``vocab_size``, which no tokenizer has, and
which the model is never given.
"""

from typing import Any

import mlx.core as mx


class WatchedModel:
    def __init__(self, model: Any, vocab_size: int) -> None:
        self._model = model
        self.vocab_size = vocab_size

    def __call__(self, token_ids: mx.array, cache: Any = None) -> mx.array:
        # A table of embeddings is read beyond its end without an error.
        readable = mx.minimum(token_ids, self.vocab_size - 1)
        logits: mx.array = self._model(readable, cache=cache)
        return logits

    def watched(self, logprobs: mx.array, tokens: mx.array) -> mx.array:
        """``tokens``, chosen by these log probabilities; ``vocab_size`` where that was chance."""
        chosen = mx.take_along_axis(logprobs, tokens[:, None], axis=-1).squeeze(-1)
        return mx.where(mx.isfinite(chosen), tokens, self.vocab_size)

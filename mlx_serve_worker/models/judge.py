"""A decoder that is asked a question, and how it weighs "yes" against "no" as the next token.

Invariants: equal to the difference of the two logits of transformers' ``...ForCausalLM`` at the
last token; inputs are padded on the right, where a causal layer never looks; of the head, only the
rows of the two answers are kept.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.models import decoder
from mlx_serve_worker.models.padding import padded
from mlx_serve_worker.widening import values

_HEAD = "lm_head."


class Past(NamedTuple):
    """What later tokens need of the earlier ones: each layer's keys and values."""

    layers: list[tuple[mx.array, mx.array]]
    tokens: int

    @property
    def bytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class _Recorder:
    """Stands where a layer of mlx-lm wants a cache, and keeps what it would have put there."""

    offset = 0
    kept: tuple[mx.array, mx.array]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.kept = keys, values
        return self.kept


class _Continuation:
    """Lets every row of a batch begin after the same past, which stays as it is."""

    def __init__(self, keys: mx.array, values: mx.array) -> None:
        self.offset = keys.shape[2]
        self._keys = keys
        self._values = values

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return _after(self._keys, keys), _after(self._values, values)


def _after(past: mx.array, rows: mx.array) -> mx.array:
    repeated = mx.broadcast_to(past, (rows.shape[0], *past.shape[1:]))
    return mx.concatenate([repeated, rows], axis=2)


class JudgeModel(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.decoder = decoder.build(config)
        if not self.decoder.is_plainly_causal:
            raise ServeError(
                ErrorCode.INVALID_MODEL,
                "config.json: a reranker that asks for yes or no has to be causal, without windows",
            )
        self._is_tied = bool(config.get("tie_word_embeddings", False))
        self._answers: mx.array | None = None
        if not self._is_tied:
            self.lm_head = nn.Linear(self.decoder.dimensions, self.decoder.vocab_size, bias=False)

    def parameter_name(self, name: str) -> str | None:
        if name.startswith(_HEAD):
            return None if self._is_tied else name
        ours = decoder.parameter_name(name)
        return None if ours is None else f"decoder.{ours}"

    def keep_answers(self, yes: int, no: int) -> None:
        """Forget all of the head but these rows. Called once, when the weights are there."""
        head = self.decoder.embed_tokens if self._is_tied else self.lm_head
        self._answers = values(head, mx.array([no, yes]))
        mx.eval(self._answers)
        if not self._is_tied:
            del self.lm_head

    def read(self, token_ids: Sequence[int]) -> Past:
        recorders = [_Recorder() for _ in self.decoder.layers]
        self._run(mx.array([token_ids]), recorders)
        past = Past([recorder.kept for recorder in recorders], len(token_ids))
        mx.eval(past.layers)
        return past

    def __call__(self, inputs: Sequence[Sequence[int]], past: Past | None = None) -> mx.array:
        """For each input, which follows on ``past``, the logit of yes less that of no."""
        lengths = [len(ids) for ids in inputs]
        token_ids = padded(inputs)
        if past is None:
            hidden = self._run(token_ids, [None] * len(self.decoder.layers))
        else:
            hidden = self._run(token_ids, [_Continuation(*layer) for layer in past.layers])
        last = hidden[mx.arange(len(inputs)), mx.array(lengths) - 1].astype(mx.float32)
        assert self._answers is not None, "keep_answers() comes before"
        logits = self.decoder.norm(last).astype(mx.float32) @ self._answers.T
        return logits[:, 1] - logits[:, 0]

    def _run(self, token_ids: mx.array, caches: Sequence[Any]) -> mx.array:
        x = self.decoder.embed_tokens(token_ids)
        for layer, cache in zip(self.decoder.layers, caches, strict=True):
            x = layer(x, "causal", cache)
        return x

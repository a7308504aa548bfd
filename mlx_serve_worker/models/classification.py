"""An encoder with a sequence-classification head, as one model with one set of weights."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from mlx_serve_worker import architectures
from mlx_serve_worker.models import heads


class ClassificationModel(nn.Module):
    def __init__(self, model_type: str, config: dict[str, Any], labels: int) -> None:
        super().__init__()
        self._head_code = heads.find(model_type)
        self._architecture = architectures.find(model_type)
        self.encoder: Any = self._architecture.build(config)
        self.head = self._head_code.build(config, self.encoder.dimensions, labels)
        if self.head.pooling == "cls":
            architectures.leave_out_all_but_first(self.encoder)
        self.token_types: int = getattr(self.encoder, "token_types", 0)
        """How many types of token the encoder tells apart; 0 if it asks for none."""

    def parameter_name(self, name: str) -> str | None:
        ours = self._head_code.parameter_name(name)
        if ours is not None:
            return f"head.{ours}"
        ours = self._architecture.parameter_name(name)
        return None if ours is None else f"encoder.{ours}"

    def widen_head(self) -> None:
        """Compute the head in float32. Called once, when the weights are there."""
        self.head.update(tree_map(_widened, self.head.parameters()))

    def __call__(
        self,
        token_ids: mx.array,
        mask: mx.array | None,
        type_ids: mx.array | None,
        lengths: Sequence[int],
    ) -> mx.array:
        """(pairs, tokens), right-padded, to (pairs, labels)."""
        if type_ids is None:
            return self.head(self.encoder(token_ids, mask), lengths)
        return self.head(self.encoder(token_ids, mask, type_ids), lengths)


def _widened(values: mx.array) -> mx.array:
    # Quantized values are packed into integers, which are no numbers by themselves.
    return values.astype(mx.float32) if mx.issubdtype(values.dtype, mx.floating) else values

"""Rerankers on MLX: a query and its documents in, a score per document out.

Invariants: the manifest decides everything; a score is the sigmoid of the model's logit, so that
it lies between 0 and 1 and sorts as the logit does, whatever kind of model gave it.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Classifier, Manifest, YesOrNo
from mlx_serve_common.wire import Detokenize, Embed, EmbedTokens, Rerank, Tokenize
from mlx_serve_worker import device
from mlx_serve_worker.backend import Output, Prepared, Score, Tokens
from mlx_serve_worker.device import OnDevice
from mlx_serve_worker.model_folder import read_checked_manifest
from mlx_serve_worker.models.token_rows import padding_cost
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.widening import unpack


class Scorer(Protocol):
    """A loaded model that gives one logit for a pair."""

    texts: TextTokenizer

    @property
    def model(self) -> nn.Module: ...

    def prepare(self, part: Rerank) -> list[Prepared | ServeError]: ...

    def logits(self, inputs: Sequence[Prepared]) -> mx.array: ...


class RerankerBackend(OnDevice):
    """Owned by the compute thread: MLX arrays belong to the thread that made them."""

    _scorer: Scorer
    padding_cost = 1.0

    def __init__(self, model_path: Path, *, widens: bool = False) -> None:
        self._path = model_path
        self._widens = widens

    def load(self) -> None:
        manifest = read_checked_manifest(self._path)
        device.configure()
        if isinstance(manifest.head, Classifier):
            self.padding_cost = padding_cost(manifest)
        self._scorer = _scorer(self._path / manifest.transformer_folder, manifest)
        if self._widens:
            unpack(self._scorer.model)

    def prepare(self, part: Embed | EmbedTokens | Rerank) -> list[Prepared | ServeError]:
        if not isinstance(part, Rerank):
            message = "this is a reranker; it gives no embeddings"
            return [ServeError(ErrorCode.MODEL_TYPE_MISMATCH, message) for _ in part.ids]
        return self._scorer.prepare(part)

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return self._scorer.texts.tokenize(part)

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return self._scorer.texts.detokenize(part)

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        logits = cast(list[float], self._scorer.logits(inputs).tolist())
        return [Score(_sigmoid(raw), raw) if math.isfinite(raw) else None for raw in logits]


def _scorer(folder: Path, manifest: Manifest) -> Scorer:
    match manifest.head:
        case Classifier() as head:
            from mlx_serve_worker.cross_encoder import CrossEncoder

            return CrossEncoder(folder, manifest, head)
        case YesOrNo() as head:
            from mlx_serve_worker.judge import Judge

            return Judge(folder, manifest, head)
        case None:
            raise ServeError(ErrorCode.INVALID_MODEL, "the manifest names no head to score with")


def _sigmoid(raw: float) -> float:
    # In double precision: two good documents must not both become 1.0 and lose their order.
    tail = math.exp(-abs(raw))
    return (1 if raw >= 0 else tail) / (1 + tail)

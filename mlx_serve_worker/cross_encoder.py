"""A sequence-classification model that reads a query and a document together.

Invariants: a pair's logit does not depend on its neighbours in the batch; with two labels it is
the difference of theirs, so that its sigmoid is the probability of "fits" in every case.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Classifier, Manifest
from mlx_serve_common.wire import Rerank
from mlx_serve_worker import architectures, device, weights
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.model_folder import checked_max_tokens, read_config
from mlx_serve_worker.models import heads
from mlx_serve_worker.pairs import PairTokenizer, pair_template
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import load_tokenizer


class Classification(nn.Module):
    """An encoder and the head on it, named as their files name them."""

    def __init__(self, model_type: str, config: dict[str, Any], labels: int) -> None:
        super().__init__()
        self._architecture = architectures.find(model_type)
        self._head_code = heads.find(model_type)
        self.encoder = self._architecture.build(config)
        self.head = self._head_code.build(config, self.encoder.dimensions, labels)

    def parameter_name(self, name: str) -> str | None:
        if (ours := self._head_code.parameter_name(name)) is not None:
            return f"head.{ours}"
        ours = self._architecture.parameter_name(name)
        return None if ours is None else f"encoder.{ours}"


class CrossEncoder:
    def __init__(self, folder: Path, manifest: Manifest, head: Classifier) -> None:
        model = Classification(manifest.architecture, read_config(folder), head.labels)
        self._encoder = model.encoder
        self._head = model.head
        tokenizer = load_tokenizer(folder, manifest)
        self.texts = TextTokenizer(
            tokenizer,
            vocab_size=self._encoder.vocab_size,
            max_tokens=checked_max_tokens(manifest, self._encoder.positions),
        )
        self._token_types = getattr(self._encoder, "token_types", 0)
        self._pairs = PairTokenizer(
            self.texts,
            pair_template(tokenizer),
            token_types=self._token_types,
            prompt=manifest.prompts.get(manifest.default_prompt or "", ""),
        )
        weights.load(
            model,
            weights.weight_files(folder),
            model.parameter_name,
            keep_half=device.current().computes_half,
        )
        self._head.update(tree_map(lambda values: values.astype(mx.float32), self._head.parameters()))

    def prepare(self, part: Rerank) -> list[Prepared | ServeError]:
        return self._pairs.prepare(part)

    def logits(self, inputs: Sequence[Prepared]) -> mx.array:
        lengths = [prepared.length for prepared in inputs]
        longest = max(lengths)
        # Any id will do as padding: the mask hides it, and 0 is in every vocabulary.
        token_ids = _padded([prepared.token_ids for prepared in inputs], longest)
        mask = None
        if min(lengths) < longest:
            mask = mx.arange(longest)[None, :] < mx.array(lengths)[:, None]
        if self._token_types:
            type_ids = _padded([prepared.context for prepared in inputs], longest)
            hidden = self._encoder(token_ids, mask, type_ids)
        else:
            hidden = self._encoder(token_ids, mask)
        logits = self._head(hidden, lengths)
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def _padded(rows: Sequence[Sequence[int]], length: int) -> mx.array:
    return mx.array([[*row, *[0] * (length - len(row))] for row in rows])

"""A sequence-classification model that reads a query and a document together.

Invariants: a pair's logit does not depend on its neighbours in the batch; with two labels it is
the difference of theirs, so that its sigmoid is the probability of "fits" in every case.
"""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Classifier, Manifest
from mlx_serve_common.wire import Rerank
from mlx_serve_worker import weights
from mlx_serve_worker.assembly import fill_module
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.lanes import side_by_side
from mlx_serve_worker.model_folder import checked_max_tokens, read_config
from mlx_serve_worker.models.classification import ClassificationModel
from mlx_serve_worker.models.padding import padded, padding_mask
from mlx_serve_worker.pairs import PairTokenizer, pair_template
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import load_tokenizer


class CrossEncoder:
    def __init__(self, folder: Path, manifest: Manifest, head: Classifier) -> None:
        config = read_config(folder)
        self.model = ClassificationModel(manifest.architecture, config, head.labels)
        tokenizer = load_tokenizer(folder, manifest)
        self.texts = TextTokenizer(
            tokenizer,
            vocab_size=self.model.encoder.vocab_size,
            max_tokens=checked_max_tokens(manifest, self.model.encoder.positions),
        )
        self._token_types = self.model.token_types if head.token_types else 0
        self._pairs = PairTokenizer(
            self.texts,
            pair_template(tokenizer),
            token_types=self._token_types,
            prompt=manifest.prompts.get(manifest.default_prompt or "", ""),
        )
        files = weights.weight_files(folder)
        fill_module(self.model, config, files, self.model.parameter_name)
        self.model.widen_head()

    def prepare(self, part: Rerank) -> list[Prepared | ServeError]:
        if part.instruction:
            message = "this reranker takes no instruction"
            error = ServeError(ErrorCode.UNSUPPORTED_PARAMETER, message, param="instruction")
            return [error for _ in part.documents]
        return self._pairs.prepare(part)

    def logits(self, inputs: Sequence[Prepared]) -> mx.array:
        return side_by_side(self._pass, inputs)

    def _pass(self, inputs: Sequence[Prepared]) -> mx.array:
        lengths = [prepared.length for prepared in inputs]
        token_ids = padded([prepared.token_ids for prepared in inputs])
        type_ids = None
        if self._token_types:
            type_ids = padded([prepared.context for prepared in inputs])
        logits: mx.array = self.model(token_ids, padding_mask(lengths), type_ids, lengths)
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]

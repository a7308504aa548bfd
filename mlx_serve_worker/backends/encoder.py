"""Text encoders on MLX: texts in, rendered vectors out.

Invariants: the manifest decides everything, nothing is guessed from the model's files; one call of
``forward`` is one forward pass; nothing is imported that the model's architecture does not need, so
that a worker starts in a fraction of a second.
"""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Detokenize, Embed, EmbedTokens, Rerank, Tokenize
from mlx_serve_worker import architectures, device, embedding, weights
from mlx_serve_worker.architectures import Encoder
from mlx_serve_worker.assembly import assemble
from mlx_serve_worker.backend import Output, Prepared, Tokens
from mlx_serve_worker.device import OnDevice
from mlx_serve_worker.lanes import side_by_side
from mlx_serve_worker.model_folder import checked_max_tokens, read_checked_manifest, read_config
from mlx_serve_worker.models.padding import padded, padding_mask
from mlx_serve_worker.models.token_rows import padding_cost
from mlx_serve_worker.pooling import Pipeline
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import load_tokenizer
from mlx_serve_worker.widening import unpack


class EncoderBackend(OnDevice):
    """Owned by the compute thread: MLX arrays belong to the thread that made them."""

    _encoder: Encoder
    _pipeline: Pipeline
    _tokenizer: TextTokenizer
    padding_cost = 1.0

    def __init__(
        self, model_path: Path, custom_models: Path | None = None, *, widens: bool = False
    ) -> None:
        self._path = model_path
        self._custom_models = custom_models
        self._widens = widens

    # --- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        manifest = read_checked_manifest(self._path)
        device.configure()
        folder = self._path / manifest.transformer_folder
        code = architectures.installed(
            manifest.architecture, manifest.implementation, self._custom_models
        )
        assembled = assemble(code, read_config(folder), weights.weight_files(folder))
        self._encoder = assembled.encoder
        self.padding_cost = padding_cost(manifest)
        self._tokenizer = TextTokenizer(
            load_tokenizer(folder, manifest),
            vocab_size=self._encoder.vocab_size,
            max_tokens=checked_max_tokens(manifest, self._encoder.positions),
            default_prompt=manifest.prompts.get(manifest.default_prompt or "", ""),
        )
        assembled.fill(keep_half=device.current().computes_half)
        if self._widens:
            unpack(assembled.module)
        self._pipeline = Pipeline(manifest.pipeline, self._path, self._encoder.dimensions)
        if self._pipeline.reads_first_only:
            architectures.leave_out_all_but_first(self._encoder)
        if manifest.dimensions not in (None, self._pipeline.dimensions):
            raise ServeError(
                ErrorCode.INVALID_MODEL,
                f"the manifest says {manifest.dimensions} dimensions, the weights give"
                f" {self._pipeline.dimensions}",
            )

    # --- texts and token ids ---------------------------------------------------------------------

    def prepare(self, part: Embed | EmbedTokens | Rerank) -> list[Prepared | ServeError]:
        if isinstance(part, Rerank):
            message = "this is an embedding model; it does not score documents"
            return [ServeError(ErrorCode.MODEL_TYPE_MISMATCH, message) for _ in part.ids]
        return embedding.prepare(part, self._tokenizer, self._pipeline)

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return self._tokenizer.tokenize(part)

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return self._tokenizer.detokenize(part)

    # --- forward passes --------------------------------------------------------------------------

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        return embedding.finish(side_by_side(self._pool, inputs), inputs, self._pipeline)

    def _pool(self, inputs: Sequence[Prepared]) -> mx.array:
        lengths = [prepared.length for prepared in inputs]
        token_ids = padded([prepared.token_ids for prepared in inputs])
        hidden = self._encoder(token_ids, padding_mask(lengths))
        return self._pipeline(hidden, lengths, [prepared.prompt_tokens for prepared in inputs])

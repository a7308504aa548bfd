"""Text encoders on MLX: texts in, rendered vectors out.

Invariants: the manifest decides everything, nothing is guessed from the model's files; one call of
``forward`` is one forward pass; imports neither transformers nor mlx_lm, so that a worker starts
in a fraction of a second.
"""

import stat
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, ManifestError, read_manifest
from mlx_serve_common.wire import Detokenize, Embed, EmbedTokens, Rerank, Tokenize
from mlx_serve_worker import architectures, device, weights
from mlx_serve_worker.architectures import Encoder
from mlx_serve_worker.backend import Output, Prepared, Tokens, VectorWish
from mlx_serve_worker.pooling import Pipeline, normalized
from mlx_serve_worker.rendering import render_rows
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import load_tokenizer


class EncoderBackend:
    """Owned by the compute thread: MLX arrays belong to the thread that made them."""

    _encoder: Encoder
    _pipeline: Pipeline
    _tokenizer: TextTokenizer

    def __init__(self, model_path: Path) -> None:
        self._path = model_path

    @property
    def device(self) -> str:
        return device.current().name

    @property
    def batch_tokens(self) -> int:
        return device.current().batch_tokens

    def memory_bytes(self) -> int:
        return mx.get_active_memory() + mx.get_cache_memory()

    # --- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        try:
            manifest = read_manifest(self._path)
        except ManifestError as error:
            raise ServeError(ErrorCode.INVALID_MODEL, f"the model is unfit: {error}") from None
        _check_files(self._path, manifest)
        mx.set_cache_limit(device.current().cache_bytes)
        folder = self._path / manifest.transformer_folder
        architecture = architectures.find(manifest.architecture)
        self._encoder = architecture.build(_read_config(folder / "config.json"))
        self._tokenizer = TextTokenizer(
            load_tokenizer(folder, manifest),
            vocab_size=self._encoder.vocab_size,
            max_tokens=_max_tokens(self._encoder, manifest),
            default_prompt=manifest.prompts.get(manifest.default_prompt or "", ""),
        )
        weights.load(
            self._encoder,
            weights.weight_files(folder),
            architecture.parameter_name,
            keep_half=device.current().computes_half,
        )
        self._pipeline = Pipeline(manifest.pipeline, self._path, self._encoder.dimensions)
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
        if error := self._refused(part):
            return [error for _ in part.ids]
        wish = VectorWish(part.encoding, part.dimensions, part.normalize)
        if isinstance(part, Embed):
            prepared = self._tokenizer.prepare(part.texts, part.truncate, part.prompt)
        else:
            prepared = self._tokenizer.prepare_ids(part.tokens, part.truncate, part.prompt)
        return [
            item if isinstance(item, ServeError) else msgspec.structs.replace(item, wish=wish)
            for item in prepared
        ]

    def _refused(self, part: Embed | EmbedTokens) -> ServeError | None:
        native = self._pipeline.dimensions
        if part.dimensions is not None and not 0 < part.dimensions <= native:
            return ServeError(
                ErrorCode.INVALID_REQUEST,
                f"this model gives {native} dimensions; {part.dimensions} cannot be had of them",
                param="dimensions",
            )
        if isinstance(part, EmbedTokens) and part.vocabulary != "model":
            return ServeError(
                ErrorCode.INVALID_REQUEST,
                f"token ids of {part.vocabulary} cannot be read here; send text"
                " (LangChain: check_embedding_ctx_length=False)",
                param="input",
            )
        return None

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return [
            self._tokenizer.tokenize(text, special=part.special, pieces=part.pieces)
            for text in part.texts
        ]

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return [self._tokenizer.detokenize(ids) for ids in part.tokens]

    # --- forward passes --------------------------------------------------------------------------

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        pooled = self._pool(inputs)
        outputs: list[Output | None] = [None] * len(inputs)
        for (dimensions, unit), rows in self._by_wish(inputs).items():
            vectors = pooled if len(rows) == len(inputs) else pooled[mx.array(rows)]
            vectors = vectors[:, :dimensions]
            if unit:
                vectors = normalized(vectors)
            finite = mx.isfinite(vectors).all(axis=-1)
            mx.eval(vectors, finite)
            encodings = [_wish(inputs[row]).encoding for row in rows]
            rendered = render_rows(vectors, encodings, cast(list[bool], finite.tolist()))
            for row, value in zip(rows, rendered, strict=True):
                outputs[row] = value
        return outputs

    def _pool(self, inputs: Sequence[Prepared]) -> mx.array:
        lengths = [prepared.length for prepared in inputs]
        longest = max(lengths)
        # Any id will do as padding: the mask hides it, and 0 is in every vocabulary.
        token_ids = mx.array(
            [[*prepared.token_ids, *[0] * (longest - prepared.length)] for prepared in inputs]
        )
        mask = None
        if min(lengths) < longest:
            mask = mx.arange(longest)[None, :] < mx.array(lengths)[:, None]
        hidden = self._encoder(token_ids, mask)
        return self._pipeline(hidden, lengths, [prepared.prompt_tokens for prepared in inputs])

    def _by_wish(self, inputs: Sequence[Prepared]) -> dict[tuple[int | None, bool], list[int]]:
        """Rows by how many dimensions are wanted, and whether of unit length."""
        groups: dict[tuple[int | None, bool], list[int]] = defaultdict(list)
        for row, prepared in enumerate(inputs):
            wish = _wish(prepared)
            unit = wish.normalize
            if unit is None:
                # A shortened vector is scaled again, as OpenAI does.
                unit = self._pipeline.normalizes or wish.dimensions is not None
            groups[wish.dimensions, unit].append(row)
        return groups


def _wish(prepared: Prepared) -> VectorWish:
    assert prepared.wish is not None, "prepare() gives a wish to every input"
    return prepared.wish


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Every file of the manifest is there, a file and no link, and as long as it was."""
    for name, record in manifest.files.items():
        try:
            found = (folder / name).lstat()
        except OSError:
            raise ServeError(ErrorCode.INVALID_MODEL, f"the model's {name} is missing") from None
        if not stat.S_ISREG(found.st_mode) or found.st_size != record.size:
            raise ServeError(
                ErrorCode.INVALID_MODEL, f"the model's {name} was changed since it was installed"
            )


def _read_config(path: Path) -> dict[str, object]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ServeError(ErrorCode.INVALID_MODEL, "config.json cannot be read") from None


def _max_tokens(encoder: Encoder, manifest: Manifest) -> int:
    # MLX reads beyond the end of a table of positions without an error.
    if manifest.max_tokens is None or not 0 < manifest.max_tokens <= encoder.positions:
        raise ServeError(
            ErrorCode.INVALID_MODEL,
            f"the manifest allows {manifest.max_tokens} tokens, the model has"
            f" {encoder.positions} positions",
        )
    return manifest.max_tokens

"""What a model is: the manifest that a job writes at install time and everybody else reads.

Invariants: a manifest is written once, by a job, from the repository's own files; nothing about a
model is guessed later. ``decided`` tells for each choice which file (or rule) made it. Only
``verified`` changes afterwards: a later verification replaces it.
"""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import msgspec

MANIFEST_FILE = "manifest.json"
MANIFEST_SCHEMA = 1


class ModelKind(StrEnum):
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    CHAT = "chat"


Implementation = Literal["own", "mlx_lm", "mlx_embeddings", "custom"]
"""Whose code computes the model's layers; only the first two are compared with a reference."""

PoolingMode = Literal["cls", "mean", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"]


class Pooling(msgspec.Struct, frozen=True, tag="pooling", tag_field="step"):
    """Token vectors to one vector; several modes are concatenated in this order."""

    modes: list[PoolingMode]
    include_prompt: bool = True


class Dense(msgspec.Struct, frozen=True, tag="dense", tag_field="step"):
    """A linear layer stored in a folder of the model, followed by its activation."""

    folder: str
    activation: str


class Normalize(msgspec.Struct, frozen=True, tag="normalize", tag_field="step"):
    """Scale to unit length."""


Step = Pooling | Dense | Normalize


class Classifier(msgspec.Struct, frozen=True, tag="classifier", tag_field="type"):
    """A layer that gives one logit, or two: for "does not fit" and "fits"."""

    labels: Literal[1, 2]
    token_types: bool = True
    """Tell the model which tokens are the query's and which the document's, if it can be told."""


class YesOrNo(msgspec.Struct, frozen=True, tag="yes_or_no", tag_field="type"):
    """A language model asked whether a document fits: which of two tokens comes next."""

    yes: int
    no: int
    instruction: str
    """What counts as fitting, unless a request says otherwise."""


Head = Classifier | YesOrNo


class TextNormalizer(msgspec.Struct, frozen=True):
    """BERT's text clean-up as ``tokenizer_config.json`` sets it, not as ``tokenizer.json``."""

    lower_case: bool
    strip_accents: bool | None
    chinese_chars: bool


TokenizerClassName = Literal[
    "BertTokenizer",
    "CamembertTokenizer",
    "DebertaV2Tokenizer",
    "GemmaTokenizer",
    "LlamaTokenizer",
    "MPNetTokenizer",
    "Qwen2Tokenizer",
    "RobertaTokenizer",
    "XLMRobertaTokenizer",
]


class TokenizerClass(msgspec.Struct, frozen=True):
    """A class of the reference that splits text its own way, whatever ``tokenizer.json`` says."""

    name: TokenizerClassName
    first: str
    last: str
    """Put around every text; empty if the file decides."""
    unknown: str
    prefix_space: bool
    tokens: list[str]
    """Those that stand for themselves wherever they are in a text."""
    is_legacy: bool = False
    """Llama's older way with blanks after a special token."""


class FileRecord(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How far a model's answers are from those of the reference implementation."""

    reference: str
    """Its name and version."""
    max_diff: float
    """The largest, of a number in a vector; of a logit for a reranker."""
    min_cosine: float | None = None
    same_order: bool | None = None
    """Whether a reranker sorts the documents alike."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What running the model on this machine showed."""

    when: str
    device: str
    passed: bool
    problems: list[str] = []
    finite: bool | None = None
    batch_max_diff: float | None = None
    """The largest difference of a number when its input was computed alone and in a batch."""
    dimensions_ok: bool | None = None
    prompts_ok: bool | None = None
    parity: Parity | None = None
    not_checked: list[str] = []
    """What was left out, with the reason."""


class Quality(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What quantizing has changed, measured against the original on texts of ours."""

    texts: int
    rank_correlation: float
    """Spearman's: of an embedding model's similarities, of a reranker's scores; 1 is unchanged."""
    mean_cosine: float | None = None
    min_cosine: float | None = None
    mean_score_diff: float | None = None
    """Of a reranker's scores, which lie between 0 and 1."""
    max_score_diff: float | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one installed model."""

    schema: int = MANIFEST_SCHEMA
    name: str
    kind: ModelKind
    architecture: str
    implementation: Implementation = "own"
    created_at: str
    backend: str = "encoder"
    source: str | None = None
    revision: str | None = None
    dimensions: int | None = None
    max_tokens: int | None = None
    lower_case: bool = False
    normalizer: TextNormalizer | None = None
    tokenizer: TokenizerClass | None = None
    transformer_folder: str = ""
    """Where config, tokenizer and weights of the transformer lie, below the model's own folder."""
    pipeline: list[Step] = []
    head: Head | None = None
    """How a reranker scores a pair; None for every other kind of model."""
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    dtype: str | None = None
    quantization: dict[str, Any] | None = None
    quantized_from: str | None = None
    """The installed model that this one was made of."""
    original_size: int | None = None
    quantized_size: int | None = None
    plain_layers: int | None = None
    """How many layers could not be quantized, because their size does not fit."""
    quality: Quality | None = None
    weights_bytes: int = 0
    size_bytes: int = 0
    files: dict[str, FileRecord] = {}
    decided: dict[str, str] = {}
    verified: Verified | None = None
    options: dict[str, Any] = {}
    """Launch options of the ``fake`` backend; empty for every real model."""


class InstalledModel(msgspec.Struct, frozen=True):
    """A manifest and the folder it was read from."""

    manifest: Manifest
    path: Path

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def kind(self) -> ModelKind:
        return self.manifest.kind


class ManifestError(Exception):
    """A model folder whose manifest cannot be used; the message says why."""


def encode_manifest(manifest: Manifest) -> bytes:
    """As the file has it, for people to read as well."""
    return msgspec.json.format(msgspec.json.encode(manifest))


def read_manifest(folder: Path) -> Manifest:
    try:
        data = (folder / MANIFEST_FILE).read_bytes()
        manifest = msgspec.json.decode(data, type=Manifest)
        # Listing the models needs this time: one bad entry must not hide the others.
        datetime.fromisoformat(manifest.created_at).timestamp()
    except FileNotFoundError:
        raise ManifestError(f"no {MANIFEST_FILE}") from None
    except OSError as error:
        raise ManifestError(f"{MANIFEST_FILE} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST_FILE} is damaged: {error}") from None
    if manifest.schema > MANIFEST_SCHEMA:
        raise ManifestError(
            f"{MANIFEST_FILE} has schema {manifest.schema}, written by a newer mlx-serve; upgrade"
        )
    return manifest

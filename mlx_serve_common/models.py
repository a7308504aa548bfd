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

from mlx_serve_common.conversion import Conversion
from mlx_serve_common.plain_file import PASSING, read_plain
from mlx_serve_common.undecodable import UNDECODABLE

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 1024**2
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


ToolParser = Literal[
    "function_gemma",
    "gemma4",
    "glm47",
    "json_tools",
    "kimi_k2",
    "kimi_k3",
    "laguna",
    "longcat",
    "minicpm5",
    "minimax_m2",
    "mistral",
    "muse_spark",
    "pythonic",
    "qwen3_coder",
]
"""The ways of writing a tool call that can be read, as mlx-lm names them."""


class GenerationDefaults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is chosen unless a request says otherwise; None leaves it to us."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


class Thinking(msgspec.Struct, frozen=True):
    """The model can reason before it answers."""

    start: str
    end: str
    """What is written before and after its thoughts."""
    variable: str | None
    """The template's variable that turns it on and off; None if nothing does."""


class ChatFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model that answers in words has besides."""

    parameters: int
    """How many numbers were learned, as if none of them were quantized."""
    width: int | None
    """Of the vector that stands for a token inside the model."""
    vocabulary: int
    """The token ids that the model knows are below this."""
    template: str | None
    """Puts a conversation into words; without one the model only continues texts."""
    variables: list[str]
    """What the template can be told."""
    tokens: dict[str, str]
    """What else it knows: special tokens by what they are for, such as ``bos_token``."""
    tool_parser: ToolParser | None
    thinking: Thinking | None
    defaults: GenerationDefaults
    ends: list[int]
    """Token ids that end an answer."""
    kv_bytes_per_token: int | None
    """What each token of a conversation occupies while it is answered; None if it is unknown."""
    kv_bytes_fixed: int = 0
    """What a conversation occupies at most besides, however long it is: of layers that look back
    over a window, or that keep a state."""

    @property
    def has_template(self) -> bool:
        return self.template is not None

    @property
    def reads_tools(self) -> bool:
        return "tools" in self.variables

    @property
    def does_tools(self) -> bool:
        """The template tells the model of tools, and its calls can be read."""
        return self.reads_tools and self.tool_parser is not None

    @property
    def thinks(self) -> bool:
        return self.thinking is not None


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
    step_max_diff: float | None = None
    """The largest difference of a logit of a chat model, read at once and token by token."""
    template_ok: bool | None = None
    """Whether a chat model's template puts a conversation into words."""
    dimensions_ok: bool | None = None
    prompts_ok: bool | None = None
    parity: Parity | None = None
    not_checked: list[str] = []
    """What was left out, with the reason."""


class Quality(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What quantizing has changed, measured against the original on texts of ours."""

    texts: int
    rank_correlation: float | None = None
    """Spearman's: of an embedding model's similarities, of a reranker's scores; 1 is unchanged."""
    mean_cosine: float | None = None
    min_cosine: float | None = None
    mean_score_diff: float | None = None
    """Of a reranker's scores, which lie between 0 and 1."""
    max_score_diff: float | None = None
    same_token: float | None = None
    """How often a chat model's likeliest next token is the original's; 1 is always."""
    mean_divergence: float | None = None
    """Kullback and Leibler's, in nats: of the probabilities of a chat model's next token."""


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
    chat: ChatFacts | None = None
    """How a chat model is talked to; None for every other kind of model."""
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    dtype: str | None = None
    quantization: dict[str, Any] | None = None
    conversion: Conversion | None = None
    """What was made here of the weights as they came; None for them as they are."""
    converted_from: str | None = None
    """The model that this one was made of; it need not be installed any more."""
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


class _Versioned(msgspec.Struct):
    schema: int = MANIFEST_SCHEMA


class ManifestError(Exception):
    """A model folder whose manifest cannot be used; the message says why."""

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing
        """It says nothing about the folder: this process has no room to look."""


def encode_manifest(manifest: Manifest) -> bytes:
    """As the file has it, for people to read as well."""
    return msgspec.json.format(msgspec.json.encode(manifest))


def read_manifest(folder: Path) -> Manifest:
    try:
        data = read_plain(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES).content
        _refuse_newer(data)
        manifest = msgspec.json.decode(data, type=Manifest)
        # Listing the models needs this time: one bad entry must not hide the others.
        datetime.fromisoformat(manifest.created_at).timestamp()
    except FileNotFoundError:
        raise ManifestError(f"no {MANIFEST_FILE}") from None
    except OSError as error:
        message = f"{MANIFEST_FILE} cannot be read: {error.strerror}"
        raise ManifestError(message, is_passing=error.errno in PASSING) from None
    except (*UNDECODABLE, ValueError, OverflowError) as error:
        raise ManifestError(f"{MANIFEST_FILE} is damaged: {error}") from None
    return manifest


def _refuse_newer(data: bytes) -> None:
    """First of all: the rest of a newer manifest may be nothing that we know."""
    schema = msgspec.json.decode(data, type=_Versioned).schema
    if schema > MANIFEST_SCHEMA:
        raise ManifestError(
            f"{MANIFEST_FILE} has schema {schema}, written by a newer mlx-serve; upgrade"
        )

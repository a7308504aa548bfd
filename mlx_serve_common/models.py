"""What a model is: the manifest that a job writes at install time and everybody else reads.

Invariants: a manifest is written once, by a job, from the repository's own files; nothing about a
model is guessed later. ``decided`` tells for each choice which file (or rule) made it.
"""

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


class TextNormalizer(msgspec.Struct, frozen=True):
    """BERT's text clean-up as ``tokenizer_config.json`` sets it, whatever ``tokenizer.json`` says."""

    lower_case: bool
    strip_accents: bool | None
    chinese_chars: bool


class FileRecord(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one installed model."""

    schema: int = MANIFEST_SCHEMA
    name: str
    kind: ModelKind
    architecture: str
    created_at: str
    backend: str = "encoder"
    source: str | None = None
    revision: str | None = None
    dimensions: int | None = None
    max_tokens: int | None = None
    lower_case: bool = False
    normalizer: TextNormalizer | None = None
    transformer_folder: str = ""
    """Where config, tokenizer and weights of the transformer lie, below the model's own folder."""
    pipeline: list[Step] = []
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    dtype: str | None = None
    quantization: dict[str, Any] | None = None
    weights_bytes: int = 0
    size_bytes: int = 0
    files: dict[str, FileRecord] = {}
    decided: dict[str, str] = {}
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


def read_manifest(folder: Path) -> Manifest:
    try:
        data = (folder / MANIFEST_FILE).read_bytes()
        manifest = msgspec.json.decode(data, type=Manifest)
    except FileNotFoundError:
        raise ManifestError(f"no {MANIFEST_FILE}") from None
    except OSError as error:
        raise ManifestError(f"{MANIFEST_FILE} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST_FILE} is damaged: {error}") from None
    if manifest.schema > MANIFEST_SCHEMA:
        raise ManifestError(
            f"{MANIFEST_FILE} has schema {manifest.schema}, written by a newer mlx-serve; upgrade"
        )
    return manifest

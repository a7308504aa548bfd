"""A repository's own files to a manifest: what the model is, and how that was decided.

Invariants: the result is what sentence-transformers makes of the same files, or the repository is
refused with the reason; every choice is in ``decided`` with the file or the rule behind it.
"""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mlx_serve_common.models import Manifest, ModelKind
from mlx_serve_worker import architectures, weights
from mlx_serve_worker.architectures import Encoder
from mlx_serve_worker.assembly import assemble
from mlx_serve_worker.chat_inspection import appraise_chat, read_chat
from mlx_serve_worker.families import card_prompts, family
from mlx_serve_worker.kinds import class_name, decide_kind
from mlx_serve_worker.longest_input import longest_input
from mlx_serve_worker.modules import MODULES_FILE, Modules, read_modules, transformer_folder
from mlx_serve_worker.quantization import quantize
from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.reranker_inspection import read_reranker
from mlx_serve_worker.tokenizer_file import TOKENIZER_FILE
from mlx_serve_worker.tokenizer_settings import (
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    read_tokenizer_class,
)
from mlx_serve_worker.transformer_settings import (
    PROMPTS_FILE,
    read_prompts,
    read_transformer_settings,
)

_CONFIG = "config.json"
# What a reader of the folder may want besides what we read ourselves.
_OPTIONAL_FILES = (
    SPECIAL_TOKENS,
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_MODEL_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Inspection(msgspec.Struct, frozen=True):
    """The manifest, except for what only copying the files tells, and the files it is made of."""

    manifest: Manifest
    files: list[str]


class Origin(NamedTuple):
    """What the person who installs a model says about it."""

    name: str
    kind: ModelKind | None = None
    source: str | None = None
    revision: str | None = None
    custom_models: Path | None = None
    """The folder of their own architectures."""
    is_given_away: bool = False
    """The folder is nobody else's: its files may be shared instead of copied."""


def appraise(root: Path, origin: Origin) -> dict[str, Any]:
    """The model's settings; refused if they say already, without the weights, that it is unfit."""
    return _Inspector(Repository(root), origin).appraise()


def inspect(root: Path, origin: Origin) -> Inspection:
    return _Inspector(Repository(root), origin).inspect()


class _Inspector:
    def __init__(self, repository: Repository, origin: Origin) -> None:
        self._repository = repository
        self._origin = origin
        self._decided: dict[str, str] = {}
        self._folder = transformer_folder(repository) if repository.has(MODULES_FILE) else ""

    def appraise(self) -> dict[str, Any]:
        config = self._repository.json(self._path(_CONFIG))
        if config is None:
            raise unfit(f"there is no {self._path(_CONFIG)}")
        kind, architecture = self._identify(config)
        if kind is ModelKind.CHAT:
            appraise_chat(self._repository, config, self._origin.custom_models, self._decided)
        elif kind is not ModelKind.RERANKER:
            self._code(architecture, config)
        return config

    def inspect(self) -> Inspection:
        repository = self._repository
        config = repository.json(self._path(_CONFIG))
        if config is None or not self._weight_files():
            repository.refuse_without_safetensors(self._folder)
            raise unfit(f"there is no {self._path(_CONFIG)}")
        kind, architecture = self._identify(config)
        if kind is ModelKind.RERANKER:
            return self._reranker(config, architecture)
        if kind is ModelKind.CHAT:
            return self._chat(config, architecture)
        code = self._code(architecture, config)
        assembled = assemble(code.code, config, self._weight_files())
        encoder = assembled.encoder
        self._note_unused(assembled.located)
        modules = self._modules(config, encoder.dimensions)
        settings, settings_file = read_transformer_settings(repository, self._folder)
        prompts, default_prompt = self._prompts()
        manifest = self._manifest(
            kind,
            architecture,
            assembled.located,
            implementation=code.implementation,
            quantization=assembled.quantization,
            dimensions=modules.dimensions,
            max_tokens=self._max_tokens(encoder, (settings.max_seq_length, settings_file)),
            lower_case=settings.do_lower_case,
            pipeline=modules.steps,
            prompts=prompts,
            default_prompt=default_prompt,
        )
        return Inspection(manifest, self._files(modules.files, settings_file))

    def _identify(self, config: dict[str, Any]) -> tuple[ModelKind, str]:
        if unheeded := self._repository.refuse_code():
            self._decided["code"] = f"{unheeded} is not heeded: our own code stands in for it"
        kind = self._kind(config)
        architecture = self._architecture(config)
        if not self._repository.has(self._path(TOKENIZER_FILE)):
            raise unfit(f"there is no {self._path(TOKENIZER_FILE)}")
        return kind, architecture

    def _reranker(self, config: dict[str, Any], architecture: str) -> Inspection:
        found = read_reranker(self._repository, self._folder, config, self._decided)
        files = self._weight_files()
        quantization = quantize(found.model, config, files, found.parameter_name)
        located = weights.locate(found.model, files, found.parameter_name)
        self._note_unused(located)
        settings, settings_file, prompts, default_prompt = found.saved
        manifest = self._manifest(
            ModelKind.RERANKER,
            architecture,
            located,
            quantization=quantization,
            backend="reranker",
            head=found.head,
            max_tokens=self._max_tokens(
                found.encoder, (settings.max_seq_length, settings_file), **found.limits
            ),
            lower_case=settings.do_lower_case,
            prompts=prompts,
            default_prompt=default_prompt,
        )
        return Inspection(manifest, self._files(found.files, settings_file))

    def _chat(self, config: dict[str, Any], architecture: str) -> Inspection:
        found = read_chat(
            self._repository,
            config,
            self._weight_files(),
            self._origin.custom_models,
            self._decided,
        )
        self._note_unused(found.assembled.located)
        manifest = self._manifest(
            ModelKind.CHAT,
            architecture,
            found.assembled.located,
            implementation=found.code.implementation,
            quantization=found.assembled.quantization,
            backend="generator",
            max_tokens=found.max_tokens,
            chat=found.facts,
        )
        return Inspection(manifest, self._files(found.files, ""))

    def _code(self, architecture: str, config: dict[str, Any]) -> architectures.Found:
        found = architectures.choose(architecture, self._origin.custom_models)
        if found.decided_by:
            self._decided["architecture"] = found.decided_by
        if decisions := getattr(found.code, "decisions", None):
            self._decided |= decisions(config)
        return found

    def _note_unused(self, located: weights.Located) -> None:
        if located.unknown:
            self._decided["unused_weights"] = ", ".join(sorted(located.unknown)[:20])

    def _manifest(
        self, kind: ModelKind, architecture: str, located: weights.Located, **own: Any
    ) -> Manifest:
        return Manifest(
            name=self._origin.name,
            kind=kind,
            architecture=architecture,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            source=self._origin.source,
            revision=self._origin.revision,
            **read_tokenizer_class(self._repository, self._folder, architecture, self._decided),
            transformer_folder=self._folder,
            dtype=located.dtype,
            decided=self._decided,
            **own,
        )

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    def _weight_files(self) -> list[Path]:
        folder = self._repository.root / self._folder
        files = weights.weight_files(folder) if folder.is_dir() else []
        for path in files:
            if not self._repository.has(self._path(path.name)):
                raise unfit(f"{self._path(path.name)} is missing")
        return files

    def _kind(self, config: dict[str, Any]) -> ModelKind:
        names = (self._origin.source or "", self._origin.name)
        found, reason = decide_kind(
            self._repository, self._folder, config, names, self._origin.kind
        )
        self._decided["kind"] = reason
        return found

    def _architecture(self, config: dict[str, Any]) -> str:
        model_type = config.get("model_type")
        if not isinstance(model_type, str) or not _MODEL_TYPE.fullmatch(model_type):
            raise unfit(f"{self._path(_CONFIG)} has no usable model_type")
        self._decided["architecture"] = f"{self._path(_CONFIG)}: model_type"
        return model_type

    def _modules(self, config: dict[str, Any], width: int) -> Modules:
        if self._repository.has(MODULES_FILE):
            modules = read_modules(self._repository, width)
            self._decided |= modules.decided
            return modules
        is_causal = class_name(config).endswith("ForCausalLM") and config.get("is_causal", True)
        found = family(self._origin.source or "", self._origin.name, is_causal=is_causal)
        self._decided["pooling"] = self._decided["normalize"] = found.decided_by
        return Modules(found.pipeline, width, [], {})

    def _prompts(self) -> tuple[dict[str, str], str | None]:
        prompts, default = read_prompts(self._repository, self._decided)
        if not prompts and default is None:
            prompts, reason = card_prompts(self._origin.source or "", self._origin.name)
            self._decided |= {"prompts": reason} if prompts else {}
        return prompts, default

    def _max_tokens(self, encoder: Encoder, setting: tuple[int | None, str], **others: int) -> int:
        limit, self._decided["max_tokens"] = longest_input(
            self._repository, self._folder, encoder, setting, others
        )
        return limit

    def _files(self, of_modules: Sequence[str], settings_file: str) -> list[str]:
        repository = self._repository
        of_transformer = [_CONFIG, TOKENIZER_FILE, TOKENIZER_CONFIG, *_OPTIONAL_FILES]
        candidates = [
            *(self._path(name) for name in of_transformer),
            *(self._path(path.name) for path in self._weight_files()),
            self._path(weights.INDEX_FILE),
            settings_file,
            MODULES_FILE,
            PROMPTS_FILE,
            *of_modules,
        ]
        return sorted({name for name in candidates if name and repository.has(name)})

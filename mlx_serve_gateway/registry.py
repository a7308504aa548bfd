"""The installed models, by every name a client may use for them.

Invariants: manifests on disk are the truth, read again when the models folder has changed; a name
from a request is only ever a key here, never part of a path; a broken entry hides no other.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import time_ns

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel, ManifestError, ModelKind, read_manifest
from mlx_serve_common.plain_file import PASSING

log = logging.getLogger(__name__)

BUILT_IN_ALIASES = {
    "qwen-embedding": "Qwen/Qwen3-Embedding-0.6B",
    "qwen-reranker": "Qwen/Qwen3-Reranker-0.6B",
    "bge-small": "BAAI/bge-small-en-v1.5",
}
DEFAULTS = {
    ModelKind.EMBEDDING: "models.default_embedding",
    ModelKind.RERANKER: "models.default_reranker",
    ModelKind.CHAT: "chat.default_model",
}
"""The settings that say which one is meant where none is named."""
_LONGEST_NAME = 512
_CLOCK_TICK_NS = 100_000_000


class Registry:
    def __init__(self, models_dir: Path, aliases: Mapping[str, str]) -> None:
        self._models_dir = models_dir
        self._aliases = {**BUILT_IN_ALIASES, **aliases}
        self._seen_at: int | None = None
        self._models: dict[str, InstalledModel] = {}
        self._by_any_name: dict[str, InstalledModel] = {}
        self._broken: dict[str, str] = {}

    def rename(self, aliases: Mapping[str, str]) -> None:
        self._aliases = {**BUILT_IN_ALIASES, **aliases}

    def models(self) -> list[InstalledModel]:
        self._refresh()
        return [self._models[name] for name in sorted(self._models)]

    def broken(self) -> list[tuple[str, str]]:
        """Folders that should be models and cannot be used, with the reason."""
        self._refresh()
        return sorted(self._broken.items())

    def find(self, name: str) -> InstalledModel:
        self._refresh()
        if found := self._lookup(name):
            return found
        # repr: a hostile name must not draw on the reader's terminal; cut: nor fill it.
        shown = repr(name if len(name) <= 100 else name[:100] + "…")
        if name in self._broken:
            raise ServeError(
                ErrorCode.MODEL_NOT_FOUND,
                f"the folder of model {shown} cannot be used; `mlx-serve list` says why",
                param="model",
            )
        raise ServeError(
            ErrorCode.MODEL_NOT_FOUND,
            f"model {shown} not found; GET /v1/models lists what is installed",
            param="model",
        )

    def find_kind(self, name: str, kind: ModelKind) -> InstalledModel:
        model = self.find(name)
        if model.kind is not kind:
            raise ServeError(
                ErrorCode.MODEL_TYPE_MISMATCH,
                f"model {model.name!r} is of type {model.kind}; this endpoint needs {kind}",
                param="model",
            )
        return model

    def find_or_only(self, name: str | None, kind: ModelKind | None = None) -> InstalledModel:
        """Without a name it is the only installed model (of that kind)."""
        if name is not None:
            return self.find(name) if kind is None else self.find_kind(name, kind)
        found = [model for model in self.models() if kind in (None, model.kind)]
        if len(found) != 1:
            names = ", ".join(model.name for model in found) or "none"
            remedy = f", or set {DEFAULTS[kind]}" if found and kind is not None else ""
            raise ServeError(
                ErrorCode.INVALID_REQUEST,
                f"model: name one of the installed {kind or ''} models ({names}){remedy}",
                param="model",
            )
        return found[0]

    def meant(self, name: str) -> str:
        """What an alias stands for; any other name stands for itself."""
        name = name.removesuffix(":latest")
        return self._aliases.get(name, name)

    def _lookup(self, name: str) -> InstalledModel | None:
        if not name or len(name) > _LONGEST_NAME:
            return None
        name = self.meant(name)
        return self._models.get(name) or self._by_any_name.get(name.casefold())

    def _refresh(self) -> None:
        try:
            changed_at = self._models_dir.stat().st_mtime_ns
        except OSError:
            changed_at = -1
        # Models are published by renaming a folder into place, which changes this time. A change
        # in the same tick of the file system's clock would not be seen: look again until it is old.
        if changed_at != self._seen_at:
            is_old = time_ns() - changed_at > _CLOCK_TICK_NS
            is_whole = self._scan()
            self._seen_at = changed_at if is_old and is_whole else None

    def _scan(self) -> bool:
        """Learn what is there; False, and nothing is forgotten, if there is no room to look."""
        models: dict[str, InstalledModel] = {}
        broken: dict[str, str] = {}
        folders = _model_folders(self._models_dir)
        if folders is None:
            return False
        for folder in folders:
            try:
                manifest = read_manifest(folder)
            except ManifestError as error:
                if error.is_passing:
                    return False
                broken[folder.name] = str(error)
                log.warning("the model folder %s cannot be used: %s", folder.name, error)
                continue
            if manifest.name in models:
                broken[folder.name] = f"a second model named {manifest.name!r}"
                continue
            models[manifest.name] = InstalledModel(manifest, folder)
        self._models, self._broken = models, broken
        self._by_any_name = dict(_other_names(models.values()))
        return True


def _model_folders(models_dir: Path) -> list[Path] | None:
    try:
        entries = sorted(models_dir.iterdir())
    except OSError as error:
        return None if error.errno in PASSING else []
    return [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]


def _other_names(models: Iterable[InstalledModel]) -> Iterable[tuple[str, InstalledModel]]:
    """Names in any case, and repository ids, where they mean one model only."""
    meant: dict[str, list[InstalledModel]] = {}
    for model in models:
        for name in {model.name.casefold(), (model.manifest.source or model.name).casefold()}:
            meant.setdefault(name, []).append(model)
    for name, found in meant.items():
        if len(found) > 1:
            found = _most_like(name, found)
        if len(found) == 1:
            yield name, found[0]


def _most_like(name: str, models: list[InstalledModel]) -> list[InstalledModel]:
    """Of the models from one repository, those that are called as it is; else the originals."""
    short = name.rpartition("/")[2]
    namesakes = [model for model in models if model.name.casefold() == short]
    return namesakes or [model for model in models if model.manifest.converted_from is None]

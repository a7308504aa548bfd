"""A models folder with models of the ``fake`` backend, published as real ones are: by a rename."""

import itertools
from pathlib import Path
from typing import Any

import msgspec

from mlx_serve_common.models import MANIFEST_FILE, ChatFacts, InstalledModel, Manifest, ModelKind


class ModelStore:
    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        models_dir.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()

    def add(
        self,
        name: str,
        kind: ModelKind = ModelKind.EMBEDDING,
        *,
        source: str | None = None,
        weights_bytes: int = 0,
        chat: ChatFacts | None = None,
        dimensions: int = 8,
        **options: Any,
    ) -> InstalledModel:
        """Install a model; ``options`` are launch options of the fake backend."""
        manifest = Manifest(
            name=name,
            kind=kind,
            architecture="fake",
            created_at="2026-01-01T00:00:00Z",
            backend="fake",
            source=source,
            dimensions=dimensions,
            max_tokens=512,
            weights_bytes=weights_bytes,
            chat=chat,
            options=options if kind is ModelKind.CHAT else {"dimensions": dimensions, **options},
        )
        folder = self.add_raw(name, msgspec.json.encode(manifest))
        return InstalledModel(manifest, folder)

    def replace(self, name: str, **options: Any) -> None:
        """Give an installed model other launch options; a worker reads them when it starts."""
        path = self.models_dir / name / MANIFEST_FILE
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, options=options)))

    def add_raw(self, folder_name: str, manifest: bytes) -> Path:
        """Install a folder whose manifest holds these bytes."""
        staging = self.models_dir / f".staging-{next(self._numbers)}"
        staging.mkdir()
        (staging / MANIFEST_FILE).write_bytes(manifest)
        folder = self.models_dir / folder_name
        staging.rename(folder)
        return folder

"""``metadata.json``: what is installed, in one file for people and their scripts.

Invariant: it is made of the manifests and never read back, so that an old one misleads none of us.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mlx_serve_common.models import ManifestError, ModelKind, read_manifest


class _Entry(msgspec.Struct):
    name: str
    type: ModelKind
    architecture: str
    source: str | None
    revision: str | None
    dtype: str | None
    quantization: dict[str, Any] | None
    size_bytes: int
    installed_at: str


def index_of(models_dir: Path) -> bytes:
    """What the file has to say now."""
    entries = sorted(_entries(models_dir), key=lambda entry: entry.name)
    return msgspec.json.format(msgspec.json.encode({"models": entries}), indent=2) + b"\n"


def _entries(models_dir: Path) -> Iterator[_Entry]:
    for folder in models_dir.glob("[!.]*/"):
        with contextlib.suppress(ManifestError):
            manifest = read_manifest(folder)
            yield _Entry(
                name=manifest.name,
                type=manifest.kind,
                architecture=manifest.architecture,
                source=manifest.source,
                revision=manifest.revision,
                dtype=manifest.dtype,
                quantization=manifest.quantization,
                size_bytes=manifest.size_bytes,
                installed_at=manifest.created_at,
            )

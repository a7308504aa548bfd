"""Models as a worker has them: made from a layout, inspected, loaded."""

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import MANIFEST_FILE, Manifest
from mlx_serve_common.wire import Embed, Truncate
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.backends.encoder import EncoderBackend
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import tiny

GOLDEN = Path(__file__).parent / "golden"

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Golden(NamedTuple):
    token_counts: list[int]
    vectors: Vectors


def golden(file: str, key: str | None = None) -> Golden:
    values = json.loads((GOLDEN / file).read_text())
    if key is not None:
        values = values[key]
    return Golden(values["token_counts"], np.stack([from_base64(v) for v in values["vectors"]]))


def from_base64(text: str) -> Vectors:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def manifested(folder: Path, **changes: Any) -> Manifest:
    """Inspect ``folder`` and leave its manifest there, as installing does."""
    manifest = inspect(folder, Origin("tiny")).manifest
    manifest = msgspec.structs.replace(manifest, **changes)
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    return manifest


def load(folder: Path) -> EncoderBackend:
    backend = EncoderBackend(folder)
    backend.load()
    return backend


def load_layout(name: str, folder: Path) -> EncoderBackend:
    manifested(tiny.build(tiny.LAYOUTS[name], folder))
    return load(folder)


def prepare(
    backend: EncoderBackend, texts: Iterable[str], truncate: Truncate = "right", **wishes: Any
) -> list[Prepared]:
    chosen = list(texts)
    part = Embed([*range(len(chosen))], chosen, "base64", truncate, **wishes)
    return accepted(backend.prepare(part))


def accepted(prepared: Sequence[Prepared | ServeError]) -> list[Prepared]:
    errors = [item for item in prepared if isinstance(item, ServeError)]
    assert not errors, errors
    return [item for item in prepared if isinstance(item, Prepared)]


def embed(backend: EncoderBackend, inputs: Sequence[Prepared]) -> Vectors:
    rendered = backend.forward(inputs)
    assert None not in rendered, "a vector is not finite"
    return np.stack([from_base64(json.loads(v)) for v in rendered if isinstance(v, bytes)])

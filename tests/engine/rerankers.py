"""Rerankers as a worker has them: inspected, loaded, asked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import MANIFEST_FILE, Manifest, ModelKind
from mlx_serve_common.wire import Rerank, Truncate
from mlx_serve_worker.backend import Prepared, Score
from mlx_serve_worker.backends.reranker import RerankerBackend
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import tiny_judges, tiny_rerankers
from tests.engine.models import GOLDEN
from tests.engine.texts import TEXTS

Logits = np.ndarray[Any, np.dtype[np.float64]]


PLAIN = [(None, query) for query in tiny_rerankers.QUERIES.values()]


class Golden(NamedTuple):
    token_counts: list[int]
    logits: Logits


def golden(file: str, name: str) -> Golden:
    """The one logit of each pair: of two labels, by how much the second is the likelier."""
    found = json.loads((GOLDEN / file).read_text())[name]
    logits = np.array(found["logits"])
    if logits.ndim == 2:
        logits = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    return Golden(found["token_counts"], logits)


def manifested(folder: Path, **changes: Any) -> Manifest:
    """Inspect ``folder`` and leave its manifest there, as installing does."""
    manifest = inspect(folder, Origin("tiny", ModelKind.RERANKER)).manifest
    manifest = msgspec.structs.replace(manifest, **changes)
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    return manifest


def load(folder: Path) -> RerankerBackend:
    backend = RerankerBackend(folder)
    backend.load()
    return backend


def cross_encoder(name: str, folder: Path) -> RerankerBackend:
    manifested(tiny_rerankers.build(tiny_rerankers.LAYOUTS[name], folder))
    return load(folder)


def judge(name: str, folder: Path) -> RerankerBackend:
    manifested(tiny_judges.build(tiny_judges.LAYOUTS[name], folder))
    return load(folder)


def part(
    query: str,
    documents: Sequence[str],
    instruction: str | None = None,
    truncate: Truncate = "right",
) -> Rerank:
    return Rerank([*range(len(documents))], query, list(documents), instruction, truncate)


def prepare(
    backend: RerankerBackend,
    query: str,
    documents: Sequence[str],
    instruction: str | None = None,
    truncate: Truncate = "right",
) -> list[Prepared]:
    prepared = backend.prepare(part(query, documents, instruction, truncate))
    errors = [item for item in prepared if isinstance(item, ServeError)]
    assert not errors, errors
    return [item for item in prepared if isinstance(item, Prepared)]


def all_pairs(
    backend: RerankerBackend, asked: Sequence[tuple[str | None, str]] = PLAIN
) -> list[Prepared]:
    """The pairs of the golden files, in their order."""
    return [
        item
        for instruction, query in asked
        for item in prepare(backend, query, [*TEXTS.values()], instruction)
    ]


def unshared(inputs: Sequence[Prepared]) -> list[Prepared]:
    """To be computed whole, each by itself."""
    return [msgspec.structs.replace(item, context=None) for item in inputs]


def scores(backend: RerankerBackend, inputs: Sequence[Prepared]) -> list[Score]:
    outputs = backend.forward(inputs)
    found = [output for output in outputs if isinstance(output, Score)]
    assert len(found) == len(inputs), "a score is not finite"
    return found


def raw(backend: RerankerBackend, inputs: Sequence[Prepared]) -> Logits:
    return np.array([score.raw for score in scores(backend, inputs)])

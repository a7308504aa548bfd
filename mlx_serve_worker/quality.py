"""How much quantizing has changed a model's answers, in figures.

Invariants: both models are asked the same, in the same batches; nothing is left out: a text that
either cannot answer is an error.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind, Quality, read_manifest
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.backend_choice import make_backend
from mlx_serve_worker.planner import plan
from mlx_serve_worker.probe import Probe, Row
from mlx_serve_worker.quality_texts import QUERIES, TEXTS
from mlx_serve_worker.widening import is_affordable

_BATCH = 16

Answers = np.ndarray[Any, np.dtype[np.float64]]
"""A vector for each text, or a logit for each query (rows) and its share of the texts; what a chat
model says, see ``chat_quality``."""

OnProgress = Callable[[int, int], None]


def answers(folder: Path, custom_models: Path | None, on_progress: OnProgress) -> Answers:
    """What the model in ``folder`` says to all texts; ``on_progress`` is told how far that is."""
    manifest = read_manifest(folder)
    kind = manifest.kind
    if kind is ModelKind.CHAT:
        # Here and below: the others need nothing of what it imports.
        from mlx_serve_worker import chat_quality

        return chat_quality.answers(folder, custom_models, on_progress)
    backend = make_backend(folder, custom_models, widens=is_affordable(manifest))
    backend.load()
    probe = Probe(backend, kind)
    inputs = _inputs(probe, kind)
    rows: list[Row | None] = [None] * len(inputs)
    done = 0
    lengths = [item.length for item in inputs]
    groups = plan(
        lengths,
        max_items=_BATCH,
        max_tokens=backend.batch_tokens,
        padding_cost=backend.padding_cost,
    )
    for group in groups:
        on_progress(done, len(inputs))
        for at, row in zip(group, probe.rows([inputs[at] for at in group]), strict=True):
            rows[at] = row
        done += len(group)
    found = [row for row in rows if row is not None]
    if len(found) < len(rows):
        raise ServeError(ErrorCode.INVALID_MODEL, "the model's answers are not finite")
    stacked = np.stack(found)
    return stacked.reshape(len(QUERIES), -1) if kind is ModelKind.RERANKER else stacked


def _inputs(probe: Probe, kind: ModelKind) -> list[Prepared]:
    if kind is not ModelKind.RERANKER:
        return probe.prepare(TEXTS)
    shares = [TEXTS[start :: len(QUERIES)] for start in range(len(QUERIES))]
    return [
        item
        for query, share in zip(QUERIES, shares, strict=True)
        for item in probe.prepare(share, query=query)
    ]


def compare(kind: ModelKind, original: Answers, quantized: Answers) -> Quality:
    if kind is ModelKind.RERANKER:
        return _of_scores(original, quantized)
    if kind is ModelKind.CHAT:
        from mlx_serve_worker import chat_quality

        return chat_quality.compare(original, quantized)
    return _of_vectors(original, quantized)


def _of_vectors(original: Answers, quantized: Answers) -> Quality:
    before, after = _unit(original), _unit(quantized)
    cosines = (before * after).sum(axis=1)
    pairs = np.triu_indices(len(before), 1)
    return Quality(
        texts=len(before),
        rank_correlation=rounded(_spearman((before @ before.T)[pairs], (after @ after.T)[pairs])),
        mean_cosine=rounded(cosines.mean()),
        min_cosine=rounded(cosines.min()),
    )


def _of_scores(original: Answers, quantized: Answers) -> Quality:
    diffs = np.abs(_sigmoid(original) - _sigmoid(quantized))
    by_query = [_spearman(*logits) for logits in zip(original, quantized, strict=True)]
    return Quality(
        texts=original.size,
        rank_correlation=rounded(np.mean(by_query)),
        mean_score_diff=rounded(diffs.mean()),
        max_score_diff=rounded(diffs.max()),
    )


def _unit(vectors: Answers) -> Answers:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))


def _sigmoid(logits: Answers) -> Answers:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))


def _spearman(one: Answers, other: Answers) -> float:
    """The correlation of ranks; equal values share their mean rank."""
    ranks = [_centred_ranks(values) for values in (one, other)]
    norms = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    # Without any order there is none to lose.
    return float(ranks[0] @ ranks[1]) / norms if norms else 1.0


def _centred_ranks(values: Answers) -> Answers:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts - 1) / 2
    ranks = means[which]
    return np.asarray(ranks - ranks.mean())


def rounded(value: Any) -> float:
    return round(float(value), 6)

"""How far a model's answers are from the reference implementation's, where that is installed.

Invariants: the reference computes in float32 on the CPU, whatever the model computes in; texts,
prompts and limits are the same on both sides.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Manifest, ModelKind, Parity
from mlx_serve_worker import reference
from mlx_serve_worker.probe import QUERY, Probe, Row
from mlx_serve_worker.reference import NotComparable

__all__ = ["NotComparable", "is_too_far", "measure"]

# By the type of the stored numbers: a GPU computes in it as well.
_LEAST_COSINE = {"float16": 0.9999, "bfloat16": 0.999}
_LARGEST_LOGIT_DIFF = {"float16": 0.03, "bfloat16": 0.25}


def measure(probe: Probe, manifest: Manifest, folder: Path, texts: Sequence[str]) -> Parity:
    if manifest.quantization:
        raise NotComparable("the reference cannot read quantized weights")
    if manifest.kind is ModelKind.RERANKER:
        return _of_logits(probe, manifest, folder, texts)
    return _of_vectors(probe, manifest, folder, texts)


def is_too_far(measured: Parity, dtype: str | None) -> bool:
    if measured.min_cosine is not None:
        return measured.min_cosine < _LEAST_COSINE.get(dtype or "", 0.99999)
    return measured.max_diff > _logit_tolerance(dtype) or measured.same_order is False


def _logit_tolerance(dtype: str | None) -> float:
    return _LARGEST_LOGIT_DIFF.get(dtype or "", 1e-3)


def _of_vectors(probe: Probe, manifest: Manifest, folder: Path, texts: Sequence[str]) -> Parity:
    encoder = reference.Encoder(folder, manifest)
    diffs: list[float] = []
    cosines: list[float] = []
    default = manifest.prompts.get(manifest.default_prompt or "", "")
    for prompt in dict.fromkeys([default, *manifest.prompts.values()]):
        expected = encoder.vectors(texts, prompt)
        for ours, theirs in zip(_finite(probe, texts, prompt), expected, strict=True):
            if ours.shape != theirs.shape:
                raise NotComparable(f"it gives {len(theirs)} dimensions, we give {len(ours)}")
            diffs.append(float(np.abs(ours - theirs).max()))
            cosines.append(_cosine(ours, theirs))
    return Parity(reference=encoder.name, max_diff=max(diffs), min_cosine=min(cosines))


def _of_logits(probe: Probe, manifest: Manifest, folder: Path, texts: Sequence[str]) -> Parity:
    scorer = reference.Scorer(folder, manifest)
    theirs = scorer.logits(QUERY, texts)
    ours = np.concatenate(_finite(probe, texts, None))
    return Parity(
        reference=scorer.name,
        max_diff=float(np.abs(ours - theirs).max()),
        same_order=_same_order(ours, theirs, _logit_tolerance(manifest.dtype)),
    )


def _same_order(ours: Row, theirs: Row, tolerance: float) -> bool:
    """Nearly equal logits have no order."""
    sorted_as_ours = theirs[np.argsort(-ours, kind="stable")]
    return bool((np.diff(sorted_as_ours) <= tolerance).all())


def _finite(probe: Probe, texts: Sequence[str], prompt: str | None) -> list[Row]:
    try:
        rows = probe.rows(probe.prepare(texts, prompt))
    except ServeError as error:
        raise NotComparable(error.message) from None
    finite = [row for row in rows if row is not None]
    if len(finite) < len(rows):
        raise NotComparable("our own results are not finite")
    return finite


def _cosine(one: Row, other: Row) -> float:
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms else float(np.array_equal(one, other))

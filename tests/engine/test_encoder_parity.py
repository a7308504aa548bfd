"""Every architecture gives the vectors of the reference, alone and in a mixed batch of 64."""

import functools
import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mlx_serve_worker import device
from mlx_serve_worker.backends.encoder import EncoderBackend
from tests.engine import tiny_encoders
from tests.engine.models import Vectors, embed, golden, load, manifested, prepare
from tests.engine.tiny_encoders import LAYOUTS, LOW_PRECISION, SAME, TEXTS

pytestmark = pytest.mark.engine

BATCH = 64
HALF = [name for name in LAYOUTS if name.rpartition("-")[2] in LOW_PRECISION]


def loaded(name: str, folder: Path) -> EncoderBackend:
    manifested(tiny_encoders.build(LAYOUTS[name], folder))
    return load(folder)


@functools.cache
def expected(name: str) -> Vectors:
    return golden("tiny_encoders.json", SAME.get(name, name)).vectors


def assert_equal(name: str, vectors: Vectors, reference: Vectors) -> None:
    assert vectors.shape == reference.shape
    tolerance = LOW_PRECISION.get(name.rpartition("-")[2])
    if tolerance is None:
        np.testing.assert_allclose(vectors, reference, rtol=0, atol=1e-5)
        return
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    assert ((vectors * reference).sum(axis=1) / norms).min() > 1 - tolerance


def assert_equals_reference(name: str, backend: EncoderBackend) -> None:
    inputs = prepare(backend, TEXTS.values())
    alone = np.concatenate([embed(backend, [item]) for item in inputs])
    assert_equal(name, alone, expected(name))

    order = np.random.RandomState(5).permutation(np.arange(BATCH) % len(inputs))
    together = embed(backend, [inputs[position] for position in order])
    assert_equal(name, together, expected(name)[order])


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_equals_the_reference(name: str, tmp_path: Path) -> None:
    backend = loaded(name, tmp_path)
    counts = golden("tiny_encoders.json", SAME.get(name, name)).token_counts
    assert [item.length for item in prepare(backend, TEXTS.values())] == counts
    assert_equals_reference(name, backend)


# CamemBERT is RoBERTa under another name, and the older settings are the newer ones.
SAME_BY_DESIGN = {"camembert-mean", "camembert-fp16", "camembert-bf16", "xlm-roberta-sharded"}


def test_layouts_differ_from_each_other() -> None:
    # Otherwise a setting that is not honoured could go unnoticed.
    names = [name for name in LAYOUTS if name not in {*SAME, *SAME_BY_DESIGN}]
    for one, other in itertools.combinations(names, 2):
        if expected(one).shape == expected(other).shape:
            assert np.abs(expected(one) - expected(other)).max() > 5e-5, (one, other)


@pytest.mark.parametrize("name", HALF)
def test_half_precision_computed_as_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU, which keeps the stored type.
    half = msgspec.structs.replace(device.current(), computes_half=True)
    monkeypatch.setattr(device, "current", lambda: half)
    assert_equals_reference(name, loaded(name, tmp_path))

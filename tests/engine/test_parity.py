"""Every layout gives the vectors of sentence-transformers, alone and in a padded batch."""

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mlx_serve_worker import device
from tests.engine import tiny
from tests.engine.models import Vectors, embed, golden, load_layout, prepare
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine


def assert_equal(name: str, vectors: Vectors, expected: Vectors) -> None:
    assert vectors.shape == expected.shape
    if name not in tiny.LOW_PRECISION:
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
        return
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((vectors * expected).sum(axis=1) / norms).min() > 1 - tiny.LOW_PRECISION[name]


@pytest.mark.parametrize("name", tiny.LAYOUTS)
def test_layout_equals_the_reference(name: str, tmp_path: Path) -> None:
    backend = load_layout(name, tmp_path)
    expected = golden("tiny_bert.json", name)
    inputs = prepare(backend, TEXTS.values())

    assert [item.length for item in inputs] == expected.token_counts
    assert_equal(name, embed(backend, inputs), expected.vectors)
    alone = np.concatenate([embed(backend, [item]) for item in inputs])
    assert_equal(name, alone, expected.vectors)


SAME_BY_DESIGN = {
    "in-a-folder", "masked-lm", "no-pooler", "no-switch", "sharded", "stored-truncation",
    "tokenizer-alone", "tokenizer-contradicts",
}  # fmt: skip


def test_layouts_differ_from_each_other() -> None:
    # Otherwise a setting that is not honoured could go unnoticed.
    names = [name for name in tiny.LAYOUTS if name not in SAME_BY_DESIGN]
    expected = {name: golden("tiny_bert.json", name).vectors for name in names}
    for one, other in itertools.combinations(names, 2):
        if expected[one].shape == expected[other].shape:
            assert np.abs(expected[one] - expected[other]).max() > 5e-5, (one, other)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_half_precision_computed_as_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU, which keeps the stored type.
    half = msgspec.structs.replace(device.current(), computes_half=True)
    monkeypatch.setattr(device, "current", lambda: half)
    backend = load_layout(name, tmp_path)
    vectors = embed(backend, prepare(backend, TEXTS.values()))
    assert_equal(name, vectors, golden("tiny_bert.json", name).vectors)

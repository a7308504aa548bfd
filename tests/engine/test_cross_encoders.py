"""Every cross-encoder gives the logits of transformers, alone and among others."""

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mlx_serve_worker import device
from tests.engine import tiny_rerankers
from tests.engine.rerankers import (
    all_pairs,
    cross_encoder,
    golden,
    prepare,
    raw,
    scores,
)
from tests.engine.texts import TEXTS
from tests.engine.tiny_rerankers import LAYOUTS

pytestmark = pytest.mark.engine

FILE = "tiny_rerankers.json"
# Half precision, where it is computed in as on a GPU: of the difference between the extremes.
HALF = {"F16": 0.01, "BF16": 0.08}


def tolerance(name: str) -> float:
    # Weights of half precision are computed on in float32, but are no longer the small numbers
    # that the others were made to be.
    return 1e-5 if LAYOUTS[name].dtype == "F32" else 1e-4


@pytest.mark.parametrize("name", LAYOUTS)
def test_logits_equal_the_reference(name: str, tmp_path: Path) -> None:
    backend = cross_encoder(name, tmp_path)
    expected = golden(FILE, name)
    inputs = all_pairs(backend)

    assert [item.length for item in inputs] == expected.token_counts
    together = raw(backend, inputs)
    np.testing.assert_allclose(together, expected.logits, rtol=0, atol=tolerance(name))
    alone = np.concatenate([raw(backend, [item]) for item in inputs])
    np.testing.assert_allclose(alone, expected.logits, rtol=0, atol=tolerance(name))
    assert [*np.argsort(-together)] == [*np.argsort(-expected.logits)]


PLAIN = sorted({layout.model_type for layout in LAYOUTS.values()})


@pytest.mark.parametrize("name", PLAIN)
def test_score_does_not_depend_on_the_other_documents(name: str, tmp_path: Path) -> None:
    backend = cross_encoder(name, tmp_path)
    inputs = all_pairs(backend)
    mixed = [inputs[place % len(inputs)] for place in np.random.RandomState(5).permutation(64)]
    expected = {id(item): raw(backend, [item])[0] for item in inputs}
    np.testing.assert_allclose(
        raw(backend, mixed), [expected[id(item)] for item in mixed], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].dtype != "F32"])
def test_half_precision_computed_as_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = msgspec.structs.replace(device.current(), computes_half=True)
    monkeypatch.setattr(device, "current", lambda: half)
    backend = cross_encoder(name, tmp_path)
    expected = golden(FILE, name).logits
    error = np.abs(raw(backend, all_pairs(backend)) - expected).max()
    assert error < HALF[LAYOUTS[name].dtype] * np.ptp(expected)
    # A logit of three digits would leave many documents without an order.
    (score,) = scores(backend, all_pairs(backend)[:1])
    assert score.raw != float(np.float16(score.raw))


@pytest.mark.parametrize("labels", [1, 2])
def test_score_is_the_probability_that_the_document_fits(labels: int, tmp_path: Path) -> None:
    backend = cross_encoder("bert" if labels == 1 else "bert-two-labels", tmp_path)
    for score in scores(backend, all_pairs(backend)):
        assert score.score == pytest.approx(1 / (1 + np.exp(-score.raw)), abs=1e-12)
        assert 0 < score.score < 1


# What only says how sentence-transformers finishes a score, or is what the class lays down anyway.
SAME = {
    "bert-identity": "bert",
    "bert-old-identity": "bert",
    "bert-saved": "bert",
    "bert-typed-as-it-is": "bert",
    "bert-no-types-as-it-is": "bert-untyped",
    # The same model by another name.
    "camembert": "xlm-roberta",
    "camembert-two-labels": "xlm-roberta-two-labels",
    "camembert-fp16": "xlm-roberta-fp16",
    "camembert-bf16": "xlm-roberta-bf16",
}


def test_layouts_differ_from_each_other() -> None:
    # Otherwise a setting that is not honoured could go unnoticed.
    names = [name for name in LAYOUTS if name not in SAME]
    expected = {name: golden(FILE, name).logits for name in names}
    for one, other in itertools.combinations(names, 2):
        assert np.abs(expected[one] - expected[other]).max() > 1e-4, (one, other)
    for name, like in SAME.items():
        np.testing.assert_array_equal(golden(FILE, name).logits, expected[like])


def test_text_before_the_query_is_the_repositorys(tmp_path: Path) -> None:
    prompted = cross_encoder("bert-prompted", tmp_path / "prompted")
    plain = cross_encoder("bert", tmp_path / "plain")
    query = tiny_rerankers.QUERIES["plain"]
    text = tiny_rerankers.prompt(LAYOUTS["bert-prompted"])
    assert [item.token_ids for item in prepare(prompted, query, [TEXTS["short"]])] == [
        item.token_ids for item in prepare(plain, text + query, [TEXTS["short"]])
    ]

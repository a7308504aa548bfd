"""Verifying a model: what passes, and what is told of what does not."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_serve_common.models import Manifest
from mlx_serve_worker import parity, reference
from mlx_serve_worker.backend import Output, Prepared
from mlx_serve_worker.backend_choice import make_backend
from mlx_serve_worker.backends.encoder import EncoderBackend
from mlx_serve_worker.probe import Probe, Row
from mlx_serve_worker.verification import verify
from tests.engine import safetensors_file, tiny, tiny_rerankers
from tests.engine.models import manifested

pytestmark = pytest.mark.engine


def made(name: str, folder: Path, **changes: Any) -> Path:
    manifested(tiny.build(tiny.LAYOUTS[name], folder), **changes)
    return folder


@pytest.fixture
def without_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("sentence_transformers", "transformers", "torch"):
        monkeypatch.setitem(sys.modules, library, None)


# --- what is checked -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "bf16", "dense-tanh", "not-normalized"])
def test_a_good_model_passes(name: str, tmp_path: Path, without_reference: None) -> None:
    found = verify(made(name, tmp_path))
    assert (found.passed, found.problems, found.finite) == (True, [], True)
    assert found.batch_max_diff is not None
    assert found.batch_max_diff < 1e-5
    assert found.dimensions_ok is True
    assert found.prompts_ok is None
    assert found.device in ("cpu", "metal", "cuda")


def test_what_was_not_compared_is_told(tmp_path: Path, without_reference: None) -> None:
    found = verify(made("mean", tmp_path))
    assert found.parity is None
    assert found.not_checked == ["parity: sentence-transformers is not installed"]


@pytest.mark.parametrize("name", ["prompt", "prompt-left-out"])
def test_prompts_are_checked(
    name: str, tmp_path: Path, without_reference: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(name, tmp_path)
    assert verify(folder).prompts_ok is True
    monkeypatch.setattr(
        "mlx_serve_worker.tokenization._piece", lambda before, text, bound, from_end: text
    )
    found = verify(folder)
    assert (found.passed, found.prompts_ok) == (False, False)
    assert "prompt" in found.problems[0]


def test_output_that_is_not_finite(tmp_path: Path, without_reference: None) -> None:
    folder = made("mean", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    tensors = dict(tiny._encoder_tensors(config, pooler=False))
    tensors["embeddings.word_embeddings.weight"][:] = np.inf
    safetensors_file.write(folder / "model.safetensors", tensors)
    found = verify(folder)
    assert (found.passed, found.finite) == (False, False)
    assert found.batch_max_diff is None
    assert "not finite" in found.problems[0]


def test_result_that_depends_on_its_neighbours(
    tmp_path: Path, without_reference: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made("mean", tmp_path)
    forward = EncoderBackend.forward

    def padding_leaks(self: EncoderBackend, inputs: Sequence[Prepared]) -> list[Output | None]:
        longest = max(inputs, key=lambda item: item.length)
        return forward(self, [longest] * len(inputs))

    monkeypatch.setattr(EncoderBackend, "forward", padding_leaks)
    for brief in (True, False):
        found = verify(folder, brief=brief)
        assert not found.passed
        assert "in a batch" in found.problems[0]
        assert found.batch_max_diff is not None
        assert found.batch_max_diff > 0.01


def test_dimensions_other_than_declared(
    tmp_path: Path, without_reference: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made("mean", tmp_path)
    monkeypatch.setattr("mlx_serve_worker.pooling.pool", lambda hidden, *_: hidden[:, 0, :16])
    found = verify(folder)
    assert (found.passed, found.dimensions_ok) == (False, False)
    assert "16 dimensions, not 32" in found.problems[0]


# --- comparing -----------------------------------------------------------------------------------


class FakeReference:
    """Answers with our own vectors, which a test may spoil."""

    name = "reference 1.0"
    spoil: Callable[[Row], Row] = staticmethod(lambda rows: rows)

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        backend = EncoderBackend(folder)
        backend.load()
        self._probe = Probe(backend, manifest.kind)

    def vectors(self, texts: Sequence[str], prompt: str) -> Row:
        rows = self._probe.rows(self._probe.prepare(texts, prompt))
        return self.spoil(np.stack([row for row in rows if row is not None]))


@pytest.fixture
def fake_reference(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeReference]]:
    monkeypatch.setattr(reference, "Encoder", FakeReference)
    yield FakeReference
    FakeReference.spoil = staticmethod(lambda rows: rows)


def test_equal_answers(tmp_path: Path, fake_reference: type[FakeReference]) -> None:
    found = verify(made("prompt", tmp_path))
    assert found.passed
    assert found.parity is not None
    assert found.parity.reference == "reference 1.0"
    assert found.parity.max_diff == 0
    assert found.parity.min_cosine == pytest.approx(1)
    assert found.not_checked == []


@pytest.mark.parametrize(("name", "passes"), [("mean", False), ("fp16", False), ("bf16", True)])
def test_other_answers(
    name: str, passes: bool, tmp_path: Path, fake_reference: type[FakeReference]
) -> None:
    def turned(rows: Row) -> Row:
        rows[3] += 0.03 * np.linalg.norm(rows[3]) * np.eye(len(rows[3]))[0]
        return rows

    fake_reference.spoil = staticmethod(turned)
    found = verify(made(name, tmp_path))
    assert found.passed is passes
    assert found.parity is not None
    assert 0.999 < (found.parity.min_cosine or 0) < 0.9999
    assert found.parity.max_diff > 0.01
    if not passes:
        assert found.problems == ["its answers are not those of reference 1.0"]


def test_other_dimensions_cannot_be_compared(
    tmp_path: Path, fake_reference: type[FakeReference]
) -> None:
    fake_reference.spoil = staticmethod(lambda rows: rows[:, :5])
    assert "5 dimensions" in verify(made("mean", tmp_path)).not_checked[0]


class FakeScorer:
    """Answers with our own logits, moved by ``moved``."""

    name = "reference 1.0"
    moved = 0.0

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        backend = make_backend(folder)
        backend.load()
        self._probe = Probe(backend, manifest.kind)

    def logits(self, query: str, documents: Sequence[str]) -> Row:
        rows = self._probe.rows(self._probe.prepare(documents, query=query))
        found = np.concatenate([row for row in rows if row is not None])
        found[0] += self.moved
        return found


@pytest.mark.parametrize("moved", [0.0, 0.5])
def test_a_reranker(moved: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifested(tiny_rerankers.build(tiny_rerankers.LAYOUTS["bert-two-labels"], tmp_path))
    monkeypatch.setattr(reference, "Scorer", FakeScorer)
    monkeypatch.setattr(FakeScorer, "moved", moved)
    found = verify(tmp_path)
    assert found.passed is (moved == 0)
    assert (found.finite, found.dimensions_ok, found.prompts_ok) == (True, None, None)
    assert found.batch_max_diff is not None
    assert found.batch_max_diff < 1e-4
    assert found.parity is not None
    assert found.parity.max_diff == pytest.approx(moved)
    assert found.parity.min_cosine is None


def test_order_of_logits() -> None:
    ours = np.array([3.0, 1.0, 2.0])
    assert parity._same_order(ours, np.array([30.0, 10.0, 20.0]), 1e-3)
    assert parity._same_order(ours, np.array([2.0, 1.0, 2.0005]), 1e-3)
    assert not parity._same_order(ours, np.array([2.0, 1.0, 2.1]), 1e-3)


def test_against_the_real_reference(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    found = verify(made("prompt-left-out", tmp_path))
    assert found.parity is not None
    assert found.parity.max_diff < 1e-5

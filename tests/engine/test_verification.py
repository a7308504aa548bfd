"""Verifying: what passes, what is told of what does not, and what is kept of it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.models import MANIFEST_FILE, Manifest, Verified, read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker import parity, reference, reverification, verification
from mlx_serve_worker.backend import Output, Prepared
from mlx_serve_worker.backends.encoder import EncoderBackend
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from mlx_serve_worker.probe import Probe, Row
from mlx_serve_worker.reverification import reverify
from mlx_serve_worker.verification import verify
from tests.engine import safetensors_file, tiny
from tests.engine.models import manifested

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]


def no_report(event: JobEvent) -> None:
    pass


def made(name: str, folder: Path, **changes: Any) -> Path:
    manifested(tiny.build(tiny.LAYOUTS[name], folder), **changes)
    return folder


def installed(name: str, tmp_path: Path) -> Path:
    source = tiny.build(tiny.LAYOUTS[name], tmp_path / "source")
    install(source, Store(tmp_path / "models"), Origin("tiny"), "refuse", no_report)
    return tmp_path / "models/tiny"


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


# --- at install time -----------------------------------------------------------------------------


def test_installing_leaves_the_brief_outcome(tmp_path: Path) -> None:
    found = read_manifest(installed("mean", tmp_path)).verified
    assert found is not None
    assert (found.passed, found.finite, found.dimensions_ok) == (True, True, True)
    assert found.parity is None
    assert "mlx-serve verify" in found.not_checked[0]


# --- an installed model --------------------------------------------------------------------------


def test_the_outcome_replaces_the_old_one(tmp_path: Path, without_reference: None) -> None:
    folder = installed("prompt", tmp_path)
    before = read_manifest(folder)
    models_dir_changed = folder.parent.stat().st_mtime_ns
    outcome = reverify(folder, no_report)
    after = read_manifest(folder)
    assert after.verified == outcome
    assert outcome.prompts_ok
    assert msgspec.structs.replace(after, verified=before.verified) == before
    # How a running gateway notices.
    assert folder.parent.stat().st_mtime_ns > models_dir_changed
    assert sorted(path.name for path in (folder.parent / ".staging").iterdir()) == [".lock"]


@pytest.mark.parametrize("how", ["bytes", "missing", "size"])
def test_files_that_are_not_those_installed(
    how: str, tmp_path: Path, without_reference: None
) -> None:
    folder = installed("mean", tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    if how == "missing":
        weights.unlink()
    else:
        weights.write_bytes(content if how == "bytes" else content + b"x")
    outcome = reverify(folder, no_report)
    assert (outcome.passed, outcome.finite) == (False, None)
    assert "model.safetensors" in outcome.problems[0]
    assert read_manifest(folder).verified == outcome


def test_a_model_that_cannot_be_loaded_did_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed("mean", tmp_path)

    def refuse(path: Path, *_: object) -> None:
        raise ServeError(ErrorCode.INVALID_MODEL, "it cannot be loaded")

    monkeypatch.setattr(verification, "make_backend", refuse)
    assert reverify(folder, no_report).problems == ["it cannot be loaded"]


def test_a_model_replaced_meanwhile_keeps_its_own_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed("mean", tmp_path)

    def replaced(path: Path, *_: object) -> Verified:
        source = tiny.build(tiny.LAYOUTS["cls"], tmp_path / "other")
        install(source, Store(folder.parent), Origin("tiny"), "replace", no_report)
        return Verified(when="", device="", passed=False)

    monkeypatch.setattr(reverification, "verify", replaced)
    with pytest.raises(ServeError, match="replaced meanwhile"):
        reverify(folder, no_report)
    kept = read_manifest(folder).verified
    assert kept is not None
    assert kept.passed


def test_the_manifest_is_never_seen_half_written(tmp_path: Path, without_reference: None) -> None:
    folder = installed("mean", tmp_path)
    manifest = read_manifest(folder)
    store = Store(folder.parent)
    done = threading.Event()
    failures: list[Exception] = []

    def read() -> None:
        while not done.is_set():
            try:
                read_manifest(folder)
            except Exception as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        store.rewrite_manifest("tiny", manifest)
    done.set()
    reader.join()
    assert failures == []


# --- as a job ------------------------------------------------------------------------------------


def run(folder: Path) -> tuple[int, list[JobEvent]]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mlx_serve_worker.job", "verify", f"--model-dir={folder}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
    )
    assert b"Traceback" not in done.stdout
    return done.returncode, [decode_event(line) for line in done.stdout.splitlines()]


def test_job(tmp_path: Path) -> None:
    folder = installed("mean", tmp_path)
    code, events = run(folder)
    assert (code, events[-1]) == (0, JobEvent(status="success", model="tiny"))
    assert {event.status for event in events[:-1]} == {"verifying"}
    (folder / "config.json").write_text("{}")
    code, events = run(folder)
    assert (code, events[-1].code) == (1, ErrorCode.INVALID_MODEL)
    assert "config.json" in str(events[-1].error)


def test_job_on_what_is_no_model(tmp_path: Path) -> None:
    code, events = run(tmp_path / "nowhere/nothing")
    assert (code, events[-1].code) == (1, ErrorCode.MODEL_NOT_FOUND)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / MANIFEST_FILE).write_text("{")
    code, events = run(tmp_path)
    assert "damaged" in str(events[-1].error)

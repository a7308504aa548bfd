"""Verifying what is installed: the outcome is kept, and is about the files that are there."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.models import MANIFEST_FILE, Verified, read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker import reverification, verification
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from mlx_serve_worker.reverification import reverify
from tests.engine import tiny

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]


def no_report(event: JobEvent) -> None:
    pass


def installed(name: str, tmp_path: Path) -> Path:
    source = tiny.build(tiny.LAYOUTS[name], tmp_path / "source")
    install(source, Store(tmp_path / "models"), Origin("tiny"), "refuse", no_report)
    return tmp_path / "models/tiny"


@pytest.fixture(autouse=True)
def without_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("sentence_transformers", "transformers", "torch"):
        monkeypatch.setitem(sys.modules, library, None)


def test_installing_leaves_the_brief_outcome(tmp_path: Path) -> None:
    found = read_manifest(installed("mean", tmp_path)).verified
    assert found is not None
    assert (found.passed, found.finite, found.dimensions_ok) == (True, True, True)
    assert found.parity is None
    assert "mlx-serve verify" in found.not_checked[0]


def test_the_outcome_replaces_the_old_one(tmp_path: Path) -> None:
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
def test_files_that_are_not_those_installed(how: str, tmp_path: Path) -> None:
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


def test_the_manifest_is_never_seen_half_written(tmp_path: Path) -> None:
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

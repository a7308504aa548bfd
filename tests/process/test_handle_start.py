"""A worker that starts, and all the ways in which it does not."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.worker import Failure, StopReason
from tests.process.odd_worker import odd_worker
from tests.process.workers import CHAT_ONLY, WorkerRig
from tests.store import ModelStore

pytestmark = pytest.mark.process


async def test_a_worker_starts_computes_and_leaves(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    (ready,) = worker.seen.ready
    assert (ready.pid, ready.device) == (worker.handle.pid, "fake")
    assert worker.state.name == "READY"
    await worker.compute("one", "two", "three")
    await worker.compute("four")

    worker.handle.request_stop(StopReason.REQUESTED)
    report = await worker.ended()
    assert (report.reason, report.error, report.exit_code) == (StopReason.REQUESTED, None, 0)
    assert worker.state.name == "STOPPED"


@pytest.mark.parametrize("kind", ModelKind)
async def test_chat_models_have_an_environment_of_their_own(
    kind: ModelKind, rig: WorkerRig, store: ModelStore
) -> None:
    worker = rig.start(store.add("m", kind))
    await worker.ready()
    assert (CHAT_ONLY in worker.process.environ()) is (kind is ModelKind.CHAT)
    await worker.abort()


async def test_a_model_that_cannot_be_loaded_says_why(rig: WorkerRig, store: ModelStore) -> None:
    report = await rig.start(store.add("m", load_error="the weights are cut off")).ended()

    assert report.reason is Failure.UNLOADABLE
    assert report.error is not None
    assert report.error.code is ErrorCode.INVALID_MODEL
    assert report.error.message == "the weights are cut off"
    assert report.exit_code == 65


async def test_a_crash_while_loading_is_a_crash(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m", crash_at_load=True))
    report = await worker.ended()

    # No error: the next attempt may succeed, so those who wait go on waiting.
    assert (report.reason, report.error) == (Failure.CRASHED, None)
    assert report.exit_code == -signal.SIGSEGV
    assert worker.seen.ready == []


async def test_a_worker_that_is_never_ready_is_given_up(rig: WorkerRig, store: ModelStore) -> None:
    report = await rig.start(store.add("m", never_ready=True), load_s=0.5).ended(5)

    assert report.reason is Failure.START_TIMEOUT
    assert report.error is not None
    assert report.error.code is ErrorCode.MODEL_UNAVAILABLE
    assert "0.5 s" in report.error.message


async def test_a_stop_while_loading_does_not_wait_for_the_load(
    rig: WorkerRig, store: ModelStore
) -> None:
    worker = rig.start(store.add("m", never_ready=True))
    await asyncio.sleep(0)
    assert worker.process.is_running()
    worker.handle.request_stop(StopReason.SHUTDOWN)
    report = await worker.ended(5)

    assert report.reason is StopReason.SHUTDOWN
    assert worker.seen.ready == []


async def test_a_stop_before_the_start_ends_it_too(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    worker.handle.request_stop(StopReason.SHUTDOWN)

    assert (await worker.ended(5)).reason is StopReason.SHUTDOWN


async def test_a_damaged_manifest_is_told(rig: WorkerRig, store: ModelStore) -> None:
    model = store.add("m")
    (model.path / "manifest.json").write_text("{")
    report = await rig.start(model).ended()

    assert report.reason is Failure.UNLOADABLE
    assert report.error is not None
    assert "damaged" in report.error.message
    assert str(store.models_dir) not in report.error.message


async def test_an_unknown_backend_is_told(rig: WorkerRig, store: ModelStore) -> None:
    manifest = b"""{"name": "m", "kind": "embedding", "architecture": "x", "backend": "quantum",
        "created_at": "2026-01-01"}"""
    model = store.add("other", ModelKind.EMBEDDING)
    (model.path / "manifest.json").write_bytes(manifest)
    report = await rig.start(model).ended()

    assert report.reason is Failure.UNLOADABLE
    assert report.error is not None
    assert "quantum" in report.error.message


async def test_the_fake_backend_needs_leave_to_be_used(
    rig: WorkerRig, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.process.workers.environment", lambda: {"PATH": os.environ["PATH"]})
    report = await rig.start(store.add("m")).ended()

    assert report.reason is Failure.UNLOADABLE
    assert report.error is not None
    assert "no backend named 'fake'" in report.error.message


async def test_a_process_that_ends_while_loading_is_not_started_forever(
    rig: WorkerRig, store: ModelStore, tmp_path: Path
) -> None:
    source = odd_worker(tmp_path / "odd", "sys.exit(0)")
    report = await rig.start(store.add("m"), source=source).ended()

    assert (report.reason, report.exit_code) == (Failure.UNLOADABLE, 0)
    assert report.error is not None
    assert report.error.code is ErrorCode.INVALID_MODEL


async def test_a_worker_of_another_version_is_refused(
    rig: WorkerRig, store: ModelStore, tmp_path: Path
) -> None:
    source = odd_worker(tmp_path / "odd", "ready(PROTOCOL + 1)\nwait_for_the_end()")
    worker = rig.start(store.add("m"), source=source)
    report = await worker.ended()

    assert report.reason is Failure.BROKE_PROTOCOL
    assert worker.seen.ready == []


async def test_a_socket_that_cannot_be_made_is_no_fault_of_the_server(
    rig: WorkerRig, store: ModelStore
) -> None:
    (rig.run_dir / "taken").touch()
    rig.run_dir = rig.run_dir / "taken"
    report = await rig.start(store.add("m")).ended()

    assert report.reason is Failure.NOT_STARTED
    assert report.error is not None
    assert report.error.code is ErrorCode.MODEL_UNAVAILABLE
    assert "taken" not in report.error.message


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux has process descriptors")
async def test_a_process_that_cannot_be_watched_does_not_stay(
    rig: WorkerRig, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process has no descriptor left at that very moment."""
    started: list[psutil.Process] = []

    def refuse(pid: int) -> int:
        started.append(psutil.Process(pid))
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    report = await rig.start(store.add("m")).ended()

    assert report.reason is Failure.NOT_STARTED
    assert report.error is not None
    (process,) = started
    assert not process.is_running()

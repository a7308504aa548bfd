"""A worker that dies without being asked, and inputs that fail without killing it."""

import signal

import pytest

from mlx_serve_gateway.worker import ExitReport, Failure, StopReason
from tests.process.workers import WorkerRig
from tests.store import ModelStore

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("word", "exit_code"),
    [
        ("__crash__", -signal.SIGSEGV),
        # A process that just ends has not been asked to: no clean leaving.
        ("__exit0__", 0),
        # The compute thread dies, or the texts thread: a process without it would be a lie.
        ("__raise_base__", 70),
        ("__raise_when_read__", 70),
    ],
)
async def test_a_death_while_computing_is_a_crash(
    rig: WorkerRig, store: ModelStore, word: str, exit_code: int
) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    worker.submit(word)

    assert await worker.ended() == ExitReport(Failure.CRASHED, exit_code=exit_code)
    assert worker.seen.answered == []


async def test_a_death_while_idle_is_seen_at_once(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    worker.process.kill()

    report = await worker.ended(1)
    assert report == ExitReport(Failure.CRASHED, exit_code=-signal.SIGKILL)


async def test_a_death_beats_a_stop_that_comes_too_late(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    worker.kill_unnoticed()
    worker.handle.request_stop(StopReason.EVICTED)

    await worker.ended(2)


@pytest.mark.parametrize(
    ("word", "code"),
    [("__raise__", "inference_failed"), ("__nan__", "invalid_model_output")],
)
async def test_a_failing_input_fails_alone(
    rig: WorkerRig, store: ModelStore, word: str, code: str
) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    before, bad, after = worker.submit("before", word, "after")
    await worker.answers([before, bad, after])

    assert worker.seen.rejected() == {bad: code}
    assert sorted(worker.seen.vectors()) == [before, after]
    await worker.compute("still here")
    worker.handle.request_stop(StopReason.EVICTED)
    assert await worker.ended() == ExitReport(StopReason.EVICTED, exit_code=0)


async def test_work_for_a_dead_worker_does_no_harm(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    worker.kill_unnoticed()
    for number in range(200):
        worker.submit(str(number))
        worker.handle.cancel([number])

    assert await worker.ended(2) == ExitReport(Failure.CRASHED, exit_code=-signal.SIGKILL)

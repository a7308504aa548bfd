"""Leaving: by its own decision, with everything answered; by force when it cannot."""

import signal
from time import monotonic

import pytest

from mlx_serve_gateway.handle import WorkerState
from mlx_serve_gateway.worker import ExitReport, StopReason
from tests.process.workers import WorkerRig
from tests.store import ModelStore
from tests.waiting import async_until

pytestmark = pytest.mark.process

BY_ITSELF = ExitReport(StopReason.EVICTED, exit_code=0)
"""No signal was needed: after a kill there is no exit code to report."""
BY_FORCE = ExitReport(StopReason.EVICTED)


async def test_an_idle_worker_leaves_by_itself(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    started = monotonic()
    worker.handle.request_stop(StopReason.EVICTED)

    assert await worker.ended() == BY_ITSELF
    assert monotonic() - started < 1


async def test_what_was_sent_is_answered_before_it_leaves(
    rig: WorkerRig, store: ModelStore
) -> None:
    worker = rig.start(store.add("m"), max_batch_items=1)
    await worker.ready()
    running = worker.submit("__sleep:0.1__", "a", "b")
    ahead = worker.submit("c", "d")
    worker.handle.request_stop(StopReason.EVICTED)

    assert await worker.ended() == BY_ITSELF
    assert worker.seen.answered == running + ahead
    assert worker.seen.rejected() == {}


async def test_what_is_cancelled_comes_back_as_such(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"), max_batch_items=1)
    await worker.ready()
    worker.submit("__sleep:0.2__")
    gone = worker.submit("a", "b")
    worker.handle.cancel(gone)
    worker.handle.request_stop(StopReason.EVICTED)

    assert await worker.ended() == BY_ITSELF
    assert worker.seen.rejected() == dict.fromkeys(gone, "cancelled")


async def test_the_first_reason_counts(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    worker.handle.request_stop(StopReason.EVICTED)
    worker.handle.request_stop(StopReason.SHUTDOWN)

    assert await worker.ended() == BY_ITSELF


async def test_signals_to_the_process_group_do_not_end_it(
    rig: WorkerRig, store: ModelStore
) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        worker.process.send_signal(number)
        await worker.compute(f"after signal {number}")

    worker.handle.request_stop(StopReason.EVICTED)
    assert await worker.ended() == BY_ITSELF


async def test_a_stopped_process_is_killed_at_its_deadline(
    rig: WorkerRig, store: ModelStore
) -> None:
    worker = rig.start(store.add("m"), stop_s=0.3)
    await worker.ready()
    worker.process.send_signal(signal.SIGSTOP)
    started = monotonic()
    worker.handle.request_stop(StopReason.EVICTED)

    assert await worker.ended(5) == BY_FORCE
    assert 0.3 <= monotonic() - started < 2


async def test_a_worker_that_does_not_finish_is_killed_at_its_deadline(
    rig: WorkerRig, store: ModelStore
) -> None:
    worker = rig.start(store.add("m"), stop_s=0.3)
    await worker.ready()
    worker.submit("__sleep:30__")
    worker.handle.request_stop(StopReason.EVICTED)

    assert await worker.ended(5) == BY_FORCE
    assert worker.seen.answered == []


async def test_a_crash_while_leaving_is_still_a_leaving(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    worker.process.suspend()
    worker.submit("__crash__")
    worker.handle.request_stop(StopReason.EVICTED)
    await async_until(lambda: worker.handle.state is WorkerState.DRAINING)
    worker.process.resume()

    assert (await worker.ended()) == ExitReport(StopReason.EVICTED, exit_code=-signal.SIGSEGV)


async def test_cancelling_its_life_ends_the_process(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    process = worker.process
    await worker.abort()

    assert not process.is_running()
    assert worker.handle.state is WorkerState.STOPPED

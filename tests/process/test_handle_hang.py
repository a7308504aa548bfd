"""A hung worker is one that holds items and answers none; a slow one is not."""

import asyncio
import signal
from time import monotonic

import pytest

from mlx_serve_gateway.worker import ExitReport, Failure, StopReason
from tests.process.workers import WorkerRig
from tests.store import ModelStore

pytestmark = pytest.mark.process

HUNG = ExitReport(Failure.HUNG)


async def test_a_worker_that_spins_in_c_is_killed(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"), batch_s=0.4)
    await worker.ready()
    started = monotonic()
    worker.submit("__spin__")

    assert await worker.ended(5) == HUNG
    assert 0.4 <= monotonic() - started < 2


async def test_a_stopped_worker_is_killed(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"), batch_s=0.4)
    await worker.ready()
    worker.process.send_signal(signal.SIGSTOP)
    worker.submit("a")

    assert await worker.ended(5) == ExitReport(Failure.STOPPED)


async def test_a_worker_that_hangs_later_is_killed_too(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"), batch_s=0.4, max_batch_items=1)
    await worker.ready()
    good, *_ = worker.submit("a", "__spin__ and b", "c")
    await worker.answers([good])

    assert await worker.ended(5) == HUNG


async def test_slow_progress_is_progress(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"), batch_s=0.4, max_batch_items=1)
    await worker.ready()
    ids = worker.submit(*["__sleep:0.2__"] * 5)
    await worker.answers(ids)

    worker.handle.request_stop(StopReason.EVICTED)
    assert (await worker.ended()).exit_code == 0


async def test_an_idle_worker_is_not_hung(rig: WorkerRig, store: ModelStore) -> None:
    batch_s = 0.5
    worker = rig.start(store.add("m"), batch_s=batch_s)
    await worker.ready()
    await worker.compute("a")
    # Whatever was armed for this batch goes off during the next one, which has all of its time ...
    await asyncio.sleep(0.8 * batch_s)
    await worker.compute("__sleep:0.3__")
    # ... or while there is nothing to do at all.
    await asyncio.sleep(1.5 * batch_s)
    await worker.compute("b")

    worker.handle.request_stop(StopReason.EVICTED)
    assert (await worker.ended()).exit_code == 0

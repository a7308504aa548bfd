"""Taking a model out of use for good: its requests end well, new ones are told to come back."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.worker import StopReason
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import FakeWorkers, asking, failure, settle
from tests.unit.gateway.pools import A, B, make_pool, state

LONG_S = 60.0


class Retirement:
    """The removal of A, and where it stands."""

    def __init__(self, pool: Pool, within_s: float = LONG_S) -> None:
        self.has_begun = False
        self.may_end = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(pool, within_s))

    async def _run(self, pool: Pool, within_s: float) -> None:
        async with pool.retire(A, within_s):
            self.has_begun = True
            await self.may_end.wait()

    async def finish(self) -> None:
        self.may_end.set()
        await self.task


async def test_what_was_asked_is_answered_first(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        requests = [asking(pool, A, str(number)) for number in range(20)]
        worker = await workers.loaded(A)
        retirement = Retirement(pool)
        await settle()
        assert worker.stop_reason is None
        while worker.held:
            assert not retirement.has_begun
            worker.answer()
            await settle()
        assert len(await asyncio.gather(*requests)) == 20

        assert worker.stop_reason is StopReason.REQUESTED
        assert not retirement.has_begun
        worker.leave()
        await settle()
        assert retirement.has_begun
        await retirement.finish()
        assert pool.statuses() == []


async def test_new_requests_are_told_to_come_back(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        running = asking(pool, A, "1")
        worker = await workers.loaded(A)
        retirement = Retirement(pool)
        await settle()
        told = await failure(asking(pool, A, "2"))
        assert told.code is ErrorCode.MODEL_BUSY
        assert told.retry_after_s is not None

        worker.answer()
        await running
        worker.leave()
        await settle()
        assert (await failure(asking(pool, A, "3"))).code is ErrorCode.MODEL_BUSY
        await retirement.finish()
        assert workers.count(A) == 1


async def test_a_load_that_somebody_waits_for_is_finished(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "1")
        await settle()
        retirement = Retirement(pool)
        await settle()
        worker = await workers.loaded(A)
        worker.answer()

        assert await request == [b"[1]"]
        worker.leave()
        await retirement.finish()


@pytest.mark.parametrize("steps", range(4))
async def test_a_load_that_nobody_waits_for_is_broken_off(
    workers: FakeWorkers, clock: FakeClock, steps: int
) -> None:
    async with make_pool(workers, clock) as pool:
        pool.preload(A)
        for _ in range(steps):
            await asyncio.sleep(0)
        retirement = Retirement(pool)
        await settle()
        for worker in workers.living:
            worker.leave()
        await settle()

        assert retirement.has_begun
        await retirement.finish()


async def test_a_load_that_has_just_been_admitted_does_not_begin(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        pool.preload(A)
        async with pool.retire(A, LONG_S):
            assert workers.launched == []


async def test_one_that_waits_for_room_is_served_first(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        busy = asking(pool, B, "b")
        blocker = await workers.loaded(B)
        request = asking(pool, A, "a")
        await settle()
        retirement = Retirement(pool)
        await settle()
        assert state(pool, A) == "waiting for room"
        blocker.answer()
        await busy
        blocker.leave()
        worker = await workers.loaded(A)
        worker.answer()
        assert await request == [b"[a]"]
        worker.leave()
        await retirement.finish()


async def test_a_worker_that_crashes_meanwhile_loses_nobody(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "1")
        worker = await workers.loaded(A)
        retirement = Retirement(pool)
        await settle()
        worker.die()
        again = await workers.loaded(A)
        again.answer()

        assert await request == [b"[1]"]
        again.leave()
        await retirement.finish()


async def test_one_that_stays_in_use_is_not_removed(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "1")
        worker = await workers.loaded(A)
        retirement = Retirement(pool, within_s=0.01)
        with pytest.raises(ServeError) as told:
            await retirement.task
        assert told.value.code is ErrorCode.MODEL_BUSY
        assert not retirement.has_begun

        worker.answer()
        await request
        second = asking(pool, A, "2")
        await settle()
        worker.answer()
        assert await second == [b"[2]"]


async def test_two_removals_are_one_too_many(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        retirement = Retirement(pool)
        await settle()
        with pytest.raises(ServeError, match="being removed"):
            async with pool.retire(A, LONG_S):
                pass
        await retirement.finish()


async def test_a_pinned_model_comes_back_only_if_it_was_not_removed(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, pinned=("a",)) as pool:
        for removed in (False, True):
            pool.preload(A)
            worker = await workers.loaded(A)
            async with AsyncExitStack() as stack:
                if not removed:
                    stack.enter_context(pytest.raises(OSError))
                leaving = asyncio.ensure_future(_left(workers))
                await stack.enter_async_context(pool.retire(A, LONG_S))
                await leaving
                clock.advance(1e6)
                pool.tick()
                await settle()
                assert workers.living == []
                if not removed:
                    raise OSError("the disk is full")
            await settle()
            assert bool(workers.living) is not removed
            assert worker not in workers.living
        assert workers.count(A) == 2


async def _left(workers: FakeWorkers) -> None:
    await settle()
    for worker in workers.living:
        worker.leave()


async def test_the_servers_stop_lets_a_removal_go_on(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "1")
        await workers.loaded(A)
        retirement = Retirement(pool)
        await settle()
        pool.fail_all(ServeError(ErrorCode.SHUTTING_DOWN, "stop"))
        pool.request_stop()
        await failure(request)
        await settle()

        assert retirement.has_begun
        await retirement.finish()

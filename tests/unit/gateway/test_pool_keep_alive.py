"""How long a model stays unused: the server's setting, and what a request says of one stay."""

import math

import pytest

from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.worker import StopReason
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import FakeWorker, FakeWorkers, asking, settle
from tests.unit.gateway.pools import TTL_S, A, B, C, make_pool, state


async def answered(
    pool: Pool, workers: FakeWorkers, *, ttl_s: float | None = None, loads: bool = True
) -> FakeWorker:
    request = asking(pool, A, "x", ttl_s=ttl_s)
    await settle()
    worker = workers.of(A)
    if loads:
        worker.become_ready()
    worker.answer()
    await request
    return worker


def status(pool: Pool) -> LaneStatus:
    return next(status for status in pool.statuses() if status.model == A.name)


@pytest.mark.parametrize("ttl_s", [1.0, TTL_S * 5])
async def test_a_request_sets_the_time(
    workers: FakeWorkers, clock: FakeClock, ttl_s: float
) -> None:
    async with make_pool(workers, clock) as pool:
        worker = await answered(pool, workers, ttl_s=ttl_s)
        assert status(pool).expires_in_s == ttl_s
        clock.advance(ttl_s - 0.1)
        pool.tick()
        assert worker.stop_reason is None
        assert status(pool).expires_in_s == pytest.approx(0.1)

        clock.advance(0.1)
        pool.tick()
        assert worker.stop_reason is StopReason.IDLE


async def test_a_request_without_a_wish_keeps_what_was_set(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        await answered(pool, workers, ttl_s=5.0)
        await answered(pool, workers, loads=False)

        assert status(pool).expires_in_s == 5.0


async def test_the_next_stay_has_the_servers_time_again(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        (await answered(pool, workers, ttl_s=0)).leave()
        await settle()
        await answered(pool, workers)

        assert status(pool).expires_in_s == TTL_S


async def test_nothing_at_all_is_at_once_and_not_before_the_last_one_is_answered(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        first, second = asking(pool, A, "1", ttl_s=0), asking(pool, A, "2")
        worker = await workers.loaded(A)
        (one, other) = worker.held
        worker.answer([one])
        await first
        assert worker.stop_reason is None
        worker.answer([other])
        await second

        assert worker.stop_reason is StopReason.IDLE


async def test_nothing_at_all_also_when_its_client_left_while_it_loaded(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "1", ttl_s=0)
        await settle()
        request.cancel()
        worker = await workers.loaded(A)

        assert worker.stop_reason is StopReason.IDLE


async def test_for_ever_is_for_ever_but_makes_room(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        worker = await answered(pool, workers, ttl_s=math.inf)
        clock.advance(1e9)
        pool.tick()
        assert (worker.stop_reason, status(pool).expires_in_s) == (None, math.inf)

        other = asking(pool, B, "x")
        await settle()
        assert worker.stop_reason is StopReason.EVICTED
        other.cancel()


async def test_a_pinned_model_stays_whatever_a_request_says(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, pinned=("a",)) as pool:
        worker = await answered(pool, workers, ttl_s=0)
        pool.unload(A)
        clock.advance(1e9)
        pool.tick()

        assert worker.stop_reason is None
        assert status(pool).expires_in_s == math.inf


async def test_the_time_while_it_is_busy_is_the_whole_one(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "x", ttl_s=7.0)
        worker = await workers.loaded(A)
        clock.advance(5)

        assert status(pool).expires_in_s == 7.0
        worker.answer()
        await request


async def test_unload_lets_an_idle_model_go_at_once(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        worker = await answered(pool, workers)
        pool.unload(A)
        assert worker.stop_reason is StopReason.IDLE
        worker.leave()
        await settle()

        assert state(pool, A) == "absent"


async def test_unload_waits_for_what_runs(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "x")
        worker = await workers.loaded(A)
        pool.unload(A)
        assert worker.stop_reason is None
        worker.answer()
        await request

        assert worker.stop_reason is StopReason.IDLE


async def test_unload_ends_a_preload(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        pool.preload(A)
        await settle()
        pool.unload(A)
        worker = await workers.loaded(A)

        assert worker.stop_reason is StopReason.IDLE


async def test_unload_of_what_is_not_loaded_changes_nothing(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        pool.unload(C)

        assert pool.statuses() == []

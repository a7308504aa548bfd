"""The pool: one load for all who wait, who leaves for whom, and when idle models go."""

import asyncio
from time import monotonic

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.residents import PATIENCE_S
from mlx_serve_gateway.worker import Failure, StopReason
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import FakeWorkers, asking, failure, settle, vector
from tests.unit.gateway.pools import TTL_S, A, B, C, error, make_pool, model, state
from tests.waiting import async_until

# --- loading -------------------------------------------------------------------------------------


async def test_everybody_who_waits_shares_one_load(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, batch_items=100) as pool:
        requests = [asking(pool, A, str(number)) for number in range(50)]
        worker = await workers.loaded(A)
        worker.answer()

        assert await asyncio.gather(*requests) == [[vector(str(n))] for n in range(50)]
        assert workers.count(A) == 1


async def test_models_load_side_by_side(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        requests = [asking(pool, A, "a"), asking(pool, B, "b")]
        await settle()
        for each in (A, B):
            workers.of(each).become_ready()
            workers.of(each).answer()

        assert await asyncio.gather(*requests) == [[b"[a]"], [b"[b]"]]


async def test_a_request_that_leaves_does_not_stop_the_load(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        first, second = asking(pool, A, "1"), asking(pool, A, "2")
        await settle()
        first.cancel()
        (await workers.loaded(A)).answer()

        assert await second == [b"[2]"]
        assert workers.count(A) == 1
        assert workers.of(A).batches == [["2"]]


async def test_a_request_that_leaves_while_waiting_for_room_loads_nothing(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        busy = asking(pool, A, "1")
        worker = await workers.loaded(A)
        waiting = asking(pool, B, "2")
        await settle()
        waiting.cancel()
        await settle()
        worker.answer()
        await busy

        assert worker.stop_reason is None
        assert workers.count(B) == 0
        assert state(pool, B) == "absent"


# --- making room ---------------------------------------------------------------------------------


async def used(workers: FakeWorkers, clock: FakeClock, pool: object, *models: object) -> None:
    """Have these models loaded and used in this order."""
    for each in models:
        request = asking(pool, each, "x")  # type: ignore[arg-type]
        worker = await workers.loaded(each)  # type: ignore[arg-type]
        worker.answer()
        await request
        clock.advance(1)


async def test_the_least_recently_used_leaves(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, slots=2) as pool:
        await used(workers, clock, pool, A, B)
        again = asking(pool, A, "x")
        await settle()
        workers.of(A).answer()
        await again
        asking(pool, C, "c").add_done_callback(_ignore)
        await settle()

        assert workers.of(B).stop_reason is StopReason.EVICTED
        assert workers.of(A).stop_reason is None


async def test_the_next_starts_when_the_process_before_it_is_gone(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        await used(workers, clock, pool, A)
        request = asking(pool, B, "b")
        await settle()
        assert workers.of(A).stop_reason is StopReason.EVICTED
        assert workers.count(B) == 0

        workers.of(A).leave()
        (await workers.loaded(B)).answer()
        assert await request == [b"[b]"]


async def test_a_busy_model_is_never_evicted(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        busy = asking(pool, A, "a")
        worker = await workers.loaded(A)
        waiting = asking(pool, B, "b")
        clock.advance(PATIENCE_S - 0.1)
        pool.tick()
        await settle()
        assert worker.stop_reason is None

        worker.answer()
        await busy
        assert worker.stop_reason is StopReason.EVICTED
        worker.leave()
        (await workers.loaded(B)).answer()
        assert await waiting == [b"[b]"]


async def test_a_leased_model_is_busy_even_between_batches(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        with pool.lease(A):
            worker = await workers.loaded(A)
            waiting = asking(pool, B, "b")
            await settle()
            assert worker.stop_reason is None
        assert worker.stop_reason is StopReason.EVICTED
        waiting.cancel()


async def test_a_request_for_a_leaving_model_is_answered_by_its_next_worker(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        await used(workers, clock, pool, A)
        for_b = asking(pool, B, "b")
        await settle()
        for_a = asking(pool, A, "again")
        await settle()
        clock.advance(1)
        workers.of(A).leave()
        (await workers.loaded(B)).answer()
        await for_b
        workers.of(B).leave()
        (await workers.loaded(A)).answer()

        assert await for_a == [b"[again]"]
        assert workers.count(A) == 2


async def test_those_who_wait_are_let_in_in_the_order_they_came(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        await used(workers, clock, pool, A)
        for each in (C, B):
            asking(pool, each, "x").add_done_callback(_ignore)
            clock.advance(1)
            await settle()
        workers.of(A).leave()
        await settle()

        assert (workers.count(C), workers.count(B)) == (1, 0)


async def test_what_can_never_fit_is_refused_at_once_and_evicts_nobody(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    huge = model("huge", weights_gib=50)
    async with make_pool(workers, clock, memory_gib=10) as pool:
        await used(workers, clock, pool, A)
        refusal = await failure(asking(pool, huge, "x"))

        assert refusal.code is ErrorCode.INSUFFICIENT_MEMORY
        assert refusal.retry_after_s is not None
        assert "60.09 GiB" in refusal.message
        assert "10.00 GiB" in refusal.message
        assert workers.of(A).stop_reason is None
        assert workers.count(huge) == 0


# --- patience ------------------------------------------------------------------------------------


async def test_a_model_that_is_never_idle_gives_way_after_a_while(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1, batch_items=1) as pool:
        busy = [asking(pool, A, str(number)) for number in range(4)]
        first = await workers.loaded(A)
        waiting = asking(pool, B, "b")
        await settle()
        clock.advance(PATIENCE_S)
        pool.tick()

        assert state(pool, A) == "yielding"
        assert first.stop_reason is None, "its running work was not finished"
        first.answer()
        assert first.stop_reason is StopReason.EVICTED
        assert first.batches == [["0"], ["1"]], "it was given more work while yielding"
        first.leave()
        (await workers.loaded(B)).answer()
        assert await waiting == [b"[b]"]

        workers.of(B).leave()
        second = await workers.loaded(A)
        while second.held:
            second.answer()
        assert await asyncio.gather(*busy) == [[vector(str(number))] for number in range(4)]


async def test_patience_ends_by_itself(
    workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_serve_gateway.residents.PATIENCE_S", 0.02)
    async with make_pool(workers, monotonic, slots=1) as pool:
        busy = asking(pool, A, "a")
        worker = await workers.loaded(A)
        waiting = asking(pool, B, "b")
        await async_until(lambda: state(pool, A) == "yielding")
        worker.answer()
        await busy
        waiting.cancel()


async def test_a_model_abandoned_while_loading_gives_way_when_it_is_loaded(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        abandoned = asking(pool, A, "a")
        await settle()
        waiting = asking(pool, B, "b")
        await settle()
        clock.advance(PATIENCE_S)
        pool.tick()
        abandoned.cancel()
        worker = await workers.loaded(A)
        await settle()

        assert worker.stop_reason is StopReason.EVICTED
        worker.leave()
        (await workers.loaded(B)).answer()
        assert await waiting == [b"[b]"]


async def test_a_model_whose_client_left_gives_way_when_its_work_ends(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        gone = asking(pool, A, "a")
        worker = await workers.loaded(A)
        waiting = asking(pool, B, "b")
        await settle()
        gone.cancel()
        await settle()
        assert worker.stop_reason is None
        worker.answer()
        await settle()

        assert worker.stop_reason is StopReason.EVICTED
        waiting.cancel()


async def test_a_pinned_model_gives_way_to_nobody(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, slots=1, pinned=("a",)) as pool:
        await used(workers, clock, pool, A)
        refusal = await failure(asking(pool, B, "b"))

        assert refusal.code is ErrorCode.INSUFFICIENT_MEMORY
        assert "1 are pinned" in refusal.message
        assert workers.of(A).stop_reason is None


# --- time to live --------------------------------------------------------------------------------


async def test_an_idle_model_leaves_after_its_time(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "x")
        (await workers.loaded(A)).answer()
        await request

        clock.advance(TTL_S - 0.1)
        pool.tick()
        assert workers.of(A).stop_reason is None
        clock.advance(0.1)
        pool.tick()
        assert workers.of(A).stop_reason is StopReason.IDLE


async def test_time_to_live_starts_with_the_end_of_the_last_request(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "x")
        worker = await workers.loaded(A)
        clock.advance(TTL_S * 3)
        pool.tick()
        assert worker.stop_reason is None
        worker.answer()
        await request
        clock.advance(TTL_S - 0.1)
        pool.tick()

        assert worker.stop_reason is None


async def test_a_preloaded_model_that_nobody_uses_leaves_too(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        pool.preload(A)
        worker = await workers.loaded(A)
        clock.advance(TTL_S)
        pool.tick()

        assert worker.stop_reason is StopReason.IDLE


async def test_a_pinned_model_never_leaves(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, pinned=("a",)) as pool:
        pool.preload(A)
        worker = await workers.loaded(A)
        clock.advance(TTL_S * 10)
        pool.tick()

        assert worker.stop_reason is None


async def test_a_request_just_before_expiry_keeps_the_model(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        await used(workers, clock, pool, A)
        clock.advance(TTL_S)
        request = asking(pool, A, "y")
        await settle()
        pool.tick()
        assert workers.of(A).stop_reason is None
        workers.of(A).answer()

        assert await request == [b"[y]"]
        assert workers.count(A) == 1


async def test_a_request_just_after_expiry_is_served_by_a_new_worker(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        await used(workers, clock, pool, A)
        clock.advance(TTL_S)
        pool.tick()
        request = asking(pool, A, "y")
        await settle()
        workers.of(A).leave()
        (await workers.loaded(A)).answer()

        assert await request == [b"[y]"]
        assert workers.count(A) == 2


async def test_expiry_comes_by_itself(workers: FakeWorkers) -> None:
    async with make_pool(workers, monotonic, ttl_s=0.02) as pool:
        request = asking(pool, A, "a")
        worker = await workers.loaded(A)
        worker.answer()
        await request
        await async_until(lambda: worker.stop_reason is StopReason.IDLE)


async def test_a_model_whose_client_left_still_expires(workers: FakeWorkers) -> None:
    ttl_s = 0.02
    async with make_pool(workers, monotonic, ttl_s=ttl_s) as pool:
        gone = asking(pool, A, "a")
        worker = await workers.loaded(A)
        await settle()
        gone.cancel()
        # Its time to live runs out while the abandoned work is still going on.
        await asyncio.sleep(3 * ttl_s)
        assert worker.stop_reason is None
        worker.answer()
        await async_until(lambda: worker.stop_reason is StopReason.IDLE)


# --- preloading and pinning ----------------------------------------------------------------------


async def test_preloading_is_seen_until_it_is_done(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        pool.preload(A)
        await settle()
        (before,) = pool.statuses()
        await workers.loaded(A)
        (after,) = pool.statuses()

        assert (before.promised, before.wanted, before.state) == (True, True, "loading")
        assert (after.promised, after.wanted, after.state) == (True, False, "ready")


async def test_a_failed_preload_is_told_and_not_repeated(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        pool.preload(A)
        await settle()
        workers.of(A).die(
            Failure.UNLOADABLE, ServeError(ErrorCode.INVALID_MODEL, "the weights are cut off")
        )
        await settle()
        pool.tick()
        (status,) = pool.statuses()

        assert (status.promised, status.wanted, status.state) == (True, False, "absent")
        assert status.error == "the weights are cut off"
        assert workers.count(A) == 1


async def test_a_preload_that_can_never_fit_is_told(workers: FakeWorkers, clock: FakeClock) -> None:
    huge = model("huge", weights_gib=50)
    async with make_pool(workers, clock, memory_gib=10) as pool:
        pool.preload(huge)

        assert "GiB" in (error(pool, huge) or "")


async def test_preloads_that_find_no_place_are_told_and_evict_nobody(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    models = [model(str(number)) for number in range(6)]
    async with make_pool(workers, clock, slots=2) as pool:
        for each in models:
            pool.preload(each)
        for _ in range(100):
            await settle()
            for worker in workers.living:
                if worker.stop_reason:
                    worker.leave()
                elif not worker.is_ready:
                    worker.become_ready()
            clock.advance(0.1)
            pool.tick()

        assert [workers.count(each) for each in models] == [1, 1, 0, 0, 0, 0]
        assert [bool(error(pool, each)) for each in models] == [False] * 2 + [True] * 4

        asked = asking(pool, models[5], "a")
        await settle()
        next(worker for worker in workers.living if worker.stop_reason).leave()
        (await workers.loaded(models[5])).answer()
        assert await asked == [b"[a]"]
        assert error(pool, models[5]) is None


async def test_a_preload_of_what_is_there_already_awaits_nothing(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        with pool.lease(A):
            await workers.loaded(A)
        pool.preload(A)
        (status,) = pool.statuses()
        assert (status.promised, status.wanted) == (True, False)


async def test_a_pinned_model_comes_back_by_itself(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, pinned=("a",)) as pool:
        pool.preload(A)
        (await workers.loaded(A)).die()
        await settle()

        assert workers.count(A) == 2


async def test_a_pinned_model_that_failed_is_tried_again_after_its_pause(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, pinned=("a",)) as pool:
        pool.preload(A)
        for _ in range(3):
            await settle()
            workers.of(A).die()
        await settle()
        assert workers.count(A) == 3
        clock.advance(29.0)
        pool.tick()
        await settle()
        assert workers.count(A) == 3

        clock.advance(1.1)
        pool.tick()
        await settle()
        assert workers.count(A) == 4


# --- kinds ---------------------------------------------------------------------------------------


async def test_each_kind_has_places_of_its_own(workers: FakeWorkers, clock: FakeClock) -> None:
    ranker = model("ranker", ModelKind.RERANKER)
    async with make_pool(workers, clock, slots=1) as pool:
        await used(workers, clock, pool, A)
        pool.preload(ranker)
        await settle()

        assert workers.count(ranker) == 1
        assert workers.of(A).stop_reason is None


async def test_a_reinstalled_model_is_loaded_from_its_new_folder(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    newer = model("a", weights_gib=1)
    async with make_pool(workers, clock) as pool:
        await used(workers, clock, pool, A)
        clock.advance(TTL_S)
        pool.tick()
        workers.of(A).leave()
        await settle()
        pool.preload(newer)
        await settle()

        assert workers.count(newer) == 1


def _ignore(request: "asyncio.Task[list[bytes]]") -> None:
    """These requests are let down by the end of the test."""
    if not request.cancelled():
        with pytest.raises(ServeError):
            request.result()

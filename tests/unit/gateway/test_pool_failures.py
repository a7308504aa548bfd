"""The pool when workers fail: no call is lost, only the guilty pay, and it comes to an end."""

import asyncio
import signal

import pytest

from mlx_serve_common.chat import Delta
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Generated, Rejected, Scored
from mlx_serve_gateway.lane import REFUSAL_SHOWN_S
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.worker import Failure, StopReason
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import (
    FakeWorker,
    FakeWorkers,
    asking,
    failure,
    settle,
    vector,
)
from tests.unit.gateway.pools import A, B, error, make_pool, model, state


async def reloaded(workers: FakeWorkers) -> FakeWorker:
    return await workers.loaded(A)


# --- a crash -------------------------------------------------------------------------------------


async def test_a_crash_loses_no_call(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        requests = [asking(pool, A, str(number)) for number in range(20)]
        (await workers.loaded(A)).die()
        second = await reloaded(workers)
        while second.held:
            second.answer()

        assert await asyncio.gather(*requests) == [[vector(str(n))] for n in range(20)]
        assert workers.count(A) == 2


async def test_suspects_are_tried_alone_and_the_others_together(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, batch_items=2) as pool:
        request = asking(pool, A, *"abcdefgh")
        first = await workers.loaded(A)
        assert first.batches == [["a", "b"], ["c", "d"]]
        first.die()
        second = await reloaded(workers)
        while second.held:
            second.answer()
        await request

        assert second.batches[:4] == [["a"], ["b"], ["c"], ["d"]]
        assert second.batches[4:] == [["e", "f"], ["g", "h"]]


async def test_a_killer_is_told_and_refused_from_then_on(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        innocent, guilty = asking(pool, A, "innocent"), asking(pool, A, "fine", "poison")
        (await workers.loaded(A)).die()
        worker = await reloaded(workers)
        while "poison" not in worker.held.values():
            worker.answer()
        worker.die()

        told = await failure(guilty)
        assert told.code is ErrorCode.WORKER_CRASHED
        assert told.param == "input"
        assert "input 1" in told.message
        assert await innocent == [b"[innocent]"]

        await reloaded(workers)
        again = await failure(asking(pool, A, "poison"))
        assert again.code is ErrorCode.REQUEST_QUARANTINED
        assert workers.count(A) == 3
        later = asking(pool, A, "fine")
        await settle()
        workers.of(A).answer()
        assert await later == [b"[fine]"]


async def test_a_crash_while_idle_accuses_nobody(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "a")
        worker = await workers.loaded(A)
        worker.answer()
        await request
        worker.die()
        await settle()
        assert state(pool, A) == "absent"

        again = asking(pool, A, "a")
        (await reloaded(workers)).answer()
        assert await again == [b"[a]"]


async def test_a_hang_is_told_as_one(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "a")
        for _ in range(2):
            (await workers.loaded(A)).die(Failure.HUNG)

        told = await failure(request)
        assert told.code is ErrorCode.WORKER_CRASHED
        assert "no progress" in told.message


async def test_an_eviction_is_no_crash(workers: FakeWorkers, clock: FakeClock) -> None:
    """A worker that had to be killed at its stop deadline still held work: nobody is to blame."""
    async with make_pool(workers, clock, slots=1, batch_items=1) as pool:
        for _ in range(5):
            request = asking(pool, A, "slow")
            first = await workers.loaded(A)
            other = asking(pool, B, "b")
            await settle()
            clock.advance(5.0)
            pool.tick()
            first.answer()
            await request
            first.leave()
            (await workers.loaded(B)).answer()
            await other
            back = asking(pool, A, "slow")
            await settle()
            workers.of(B).leave()
            (await workers.loaded(A)).answer()
            await back

        statuses = {status.model: status.restarts for status in pool.statuses()}
        assert statuses == {"a": 0, "b": 0}


async def test_work_of_a_worker_killed_while_leaving_is_sent_again(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "a")
        worker = await workers.loaded(A)
        await settle()
        pool._residents.leave(pool._residents.lanes["a"], StopReason.REQUESTED)
        worker.leave()
        again = await reloaded(workers)
        assert again.batches == [["a"]]
        again.die()
        (await reloaded(workers)).answer()

        assert await request == [b"[a]"], "it was accused of a death that was none"


# --- rejections ----------------------------------------------------------------------------------


async def test_a_rejected_input_fails_its_call_and_drops_the_rest_of_it(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request, other = asking(pool, A, "a", "b", "c"), asking(pool, A, "d")
        worker = await workers.loaded(A)
        bad, *rest = list(worker.held)[:2]
        worker.reject(ErrorCode.INVALID_MODEL_OUTPUT, [bad])

        told = await failure(request)
        assert told.code is ErrorCode.INVALID_MODEL_OUTPUT
        assert told.message.startswith("input 0: ")
        assert set(rest) <= set(worker.cancelled)
        worker.answer()
        assert await other == [b"[d]"]


async def test_a_client_that_leaves_takes_its_work_with_it(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, batch_items=1) as pool:
        gone, stays = asking(pool, A, *"abcdef"), asking(pool, A, "stays")
        worker = await workers.loaded(A)
        gone.cancel()
        await settle()
        assert len(worker.cancelled) >= 1
        for _ in range(4):
            worker.answer()

        assert await stays == [b"[stays]"]
        assert len(worker.batches) <= 3


# --- models that cannot be loaded ----------------------------------------------------------------


async def test_everybody_who_waited_is_told_why_it_cannot_be_loaded(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        requests = [asking(pool, A, "x") for _ in range(20)]
        await settle()
        workers.of(A).die(Failure.UNLOADABLE, ServeError(ErrorCode.INVALID_MODEL, "cut off"))

        told = await asyncio.gather(*map(failure, requests))
        assert {(each.code, each.message) for each in told} == {
            (ErrorCode.INVALID_MODEL, "cut off")
        }
        assert workers.count(A) == 1
        assert error(pool, A) == "cut off"


async def test_loading_again_may_work(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        first = asking(pool, A, "x")
        await settle()
        workers.of(A).die(Failure.UNLOADABLE, ServeError(ErrorCode.INVALID_MODEL, "cut off"))
        await failure(first)
        second = asking(pool, A, "x")
        (await workers.loaded(A)).answer()

        assert await second == [b"[x]"]
        assert error(pool, A) is None


async def test_a_failed_load_gives_its_place_to_who_waits(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        failing, waiting = asking(pool, A, "a"), asking(pool, B, "b")
        await settle()
        workers.of(A).die(Failure.UNLOADABLE, ServeError(ErrorCode.INVALID_MODEL, "no"))
        await failure(failing)
        (await workers.loaded(B)).answer()

        assert await waiting == [b"[b]"]


# --- the breaker ---------------------------------------------------------------------------------


async def broken(workers: FakeWorkers, pool: Pool) -> ServeError:
    """Have the model die three times while loading."""
    request = asking(pool, A, "a")
    for _ in range(3):
        await settle()
        workers.of(A).die()
    return await failure(request)


async def test_three_deaths_in_a_minute_are_enough(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        told = await broken(workers, pool)
        assert told.code is ErrorCode.MODEL_UNAVAILABLE
        assert told.retry_after_s == 30.0

        clock.advance(29.0)
        again = await failure(asking(pool, A, "a"))
        assert again.code is ErrorCode.MODEL_UNAVAILABLE
        assert again.retry_after_s == pytest.approx(1.0)
        assert workers.count(A) == 3


async def test_after_its_pause_the_model_is_tried_once(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        await broken(workers, pool)
        clock.advance(30.0)
        request = asking(pool, A, "a")
        await settle()
        workers.of(A).die()

        assert (await failure(request)).retry_after_s == 60.0
        assert workers.count(A) == 4


async def test_it_heals(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        await broken(workers, pool)
        clock.advance(30.0)
        request = asking(pool, A, "a")
        (await workers.loaded(A)).answer()
        assert await request == [b"[a]"]

        workers.of(A).die()
        again = asking(pool, A, "a")
        (await workers.loaded(A)).answer()
        assert await again == [b"[a]"]


async def test_one_failing_model_leaves_the_others_alone(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        await broken(workers, pool)
        request = asking(pool, B, "b")
        (await workers.loaded(B)).answer()

        assert await request == [b"[b]"]


async def test_a_poison_does_not_open_the_breaker(workers: FakeWorkers, clock: FakeClock) -> None:
    """Even when the answers of a batch before it are lost in the crash."""
    async with make_pool(workers, clock, batch_items=1) as pool:
        innocent, guilty = asking(pool, A, "innocent"), asking(pool, A, "poison")
        later = asking(pool, A, "later")
        first = await workers.loaded(A)
        assert first.batches == [["innocent"], ["poison"]]
        first.die()
        second = await reloaded(workers)
        second.answer()
        assert list(second.held.values()) == ["poison"]
        second.die()
        third = await reloaded(workers)
        third.answer()

        assert (await failure(guilty)).code is ErrorCode.WORKER_CRASHED
        assert await innocent == [b"[innocent]"]
        assert await later == [b"[later]"]


async def test_a_process_that_cannot_be_started_is_no_fault_of_the_model(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        for _ in range(5):
            request = asking(pool, A, "a")
            await settle()
            workers.of(A).die(Failure.NOT_STARTED, ServeError(ErrorCode.MODEL_UNAVAILABLE, "no"))
            assert (await failure(request)).message == "no"
        request = asking(pool, A, "a")
        (await workers.loaded(A)).answer()
        assert await request == [b"[a]"]
        assert [status.restarts for status in pool.statuses()] == [0]


async def test_many_poisons_do_not_open_the_breaker_of_a_model_that_works(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        fine = asking(pool, A, "fine")
        (await workers.loaded(A)).answer()
        await fine
        poisons = [asking(pool, A, f"poison {number}") for number in range(6)]
        for _ in range(2 * len(poisons)):
            await settle()
            for worker in workers.living:
                if not worker.is_ready:
                    worker.become_ready()
                if worker.held:
                    worker.die()
        codes = [(await failure(poison)).code for poison in poisons]
        assert codes == [ErrorCode.WORKER_CRASHED] * 6
        fine = asking(pool, A, "fine")
        (await workers.loaded(A)).answer()
        assert await fine == [b"[fine]"]


async def test_a_model_that_dies_of_everything_is_given_a_rest(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        codes = []
        for number in range(3):
            request = asking(pool, A, f"anything {number}")
            while not request.done():
                await settle()
                for worker in workers.living:
                    worker.become_ready()
                    worker.die()
            codes.append((await failure(request)).code)
        assert codes[-1] is ErrorCode.MODEL_UNAVAILABLE
        assert workers.count(A) == 3


# --- the quarantine ------------------------------------------------------------------------------


async def test_nothing_is_loaded_or_evicted_for_what_is_refused(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        guilty = asking(pool, A, "poison")
        for _ in range(2):
            (await workers.loaded(A)).die()
        await failure(guilty)
        last = await reloaded(workers)
        other = asking(pool, B, "b")
        await settle()
        last.leave()
        (await workers.loaded(B)).answer()
        await other

        refused = await failure(asking(pool, A, "poison"))
        assert refused.code is ErrorCode.REQUEST_QUARANTINED
        assert state(pool, A) == "absent"
        assert workers.of(B).stop_reason is None


async def test_who_was_there_when_somebody_else_killed_the_worker_twice_may_ask_again(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "innocent")
        for _ in range(2):
            (await workers.loaded(A)).die(exit_code=-signal.SIGKILL)
        told = await failure(request)
        assert told.code is ErrorCode.MODEL_UNAVAILABLE
        assert told.retry_after_s is not None
        again = asking(pool, A, "innocent")
        (await reloaded(workers)).answer()
        assert await again == [b"[innocent]"]


async def test_copies_of_a_killer_are_not_tried(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        copies = [asking(pool, A, "poison") for _ in range(10)]
        innocent = asking(pool, A, "innocent", "poisonous")
        for _ in range(2):
            (await workers.loaded(A)).die()
        codes = {(await failure(copy)).code for copy in copies}
        assert codes == {ErrorCode.WORKER_CRASHED, ErrorCode.REQUEST_QUARANTINED}
        worker = await reloaded(workers)
        while worker.held:
            worker.answer()
        assert await innocent == [b"[innocent]", b"[poisonous]"]
        assert workers.count(A) == 3


# --- nonsense ------------------------------------------------------------------------------------


async def test_an_answer_of_another_kind_fails_its_call_at_once(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        first, second = asking(pool, A, "a"), asking(pool, A, "b")
        worker = await workers.loaded(A)
        await settle()
        (a, b) = worker.held
        worker.answer_with(Scored([a], [0.5], [0.5], [1], [], 0.001))
        worker.answer_with(Generated([b], [Delta("x")]))
        for request in (first, second):
            assert (await failure(request)).code is ErrorCode.INFERENCE_FAILED
        worker.answer_with(Rejected([b], ErrorCode.CANCELLED, "the caller has left"))
        after = asking(pool, A, "c")
        await settle()
        worker.answer()
        assert await after == [b"[c]"]


# --- what is told of it --------------------------------------------------------------------------


async def test_a_refusal_is_a_problem_for_a_while(workers: FakeWorkers, clock: FakeClock) -> None:
    huge = model("huge", weights_gib=200)
    async with make_pool(workers, clock) as pool:
        assert (await failure(asking(pool, huge, "x"))).code is ErrorCode.INSUFFICIENT_MEMORY
        clock.advance(REFUSAL_SHOWN_S - 1)
        assert error(pool, huge) is not None
        clock.advance(1)
        assert error(pool, huge) is None


async def test_what_was_promised_is_missed_for_as_long_as_it_is_not_there(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    huge = model("huge", weights_gib=200)
    async with make_pool(workers, clock) as pool:
        pool.preload(huge)
        clock.advance(10 * REFUSAL_SHOWN_S)
        assert error(pool, huge) is not None


async def test_a_pause_is_told_until_its_end(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        for pause_s in (30.0, 60.0, 120.0):
            await broken(workers, pool) if pause_s == 30 else await one_more_death(workers, pool)
            clock.advance(pause_s - 1)
            assert error(pool, A) is not None
            clock.advance(1)
        assert error(pool, A) is None


async def one_more_death(workers: FakeWorkers, pool: Pool) -> None:
    request = asking(pool, A, "a")
    await settle()
    workers.of(A).die()
    await failure(request)


# --- stopping ------------------------------------------------------------------------------------


async def test_a_stop_ends_every_worker_and_refuses_what_waits(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, slots=1) as pool:
        idle = asking(pool, A, "a")
        worker = await workers.loaded(A)
        waiting = asking(pool, B, "b")
        await settle()
        pool.request_stop()

        assert worker.stop_reason is StopReason.SHUTDOWN
        assert (await failure(waiting)).code is ErrorCode.SHUTTING_DOWN
        assert (await failure(idle)).code is ErrorCode.SHUTTING_DOWN
        assert (await failure(asking(pool, A, "late"))).code is ErrorCode.SHUTTING_DOWN


async def test_a_stop_reaches_a_load_that_has_just_been_admitted(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with asyncio.timeout(10):
        async with make_pool(workers, clock) as pool:
            pool.preload(A)
            pool.request_stop()
    assert not workers.living


async def test_a_stop_ends_a_load(workers: FakeWorkers, clock: FakeClock) -> None:
    async with asyncio.timeout(10):
        async with make_pool(workers, clock) as pool:
            request = asking(pool, A, "a")
            await settle()

    assert (await failure(request)).code is ErrorCode.SHUTTING_DOWN
    assert not workers.living


async def test_nothing_is_started_again_while_stopping(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock, pinned=("a",)) as pool:
        pool.preload(A)
        request = asking(pool, A, "x")
        worker = await workers.loaded(A)
        pool._residents.is_stopping = True
        worker.die()

    assert (await failure(request)).code is ErrorCode.SHUTTING_DOWN
    assert workers.count(A) == 1


async def test_giving_up_answers_everybody(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock, batch_items=1) as pool:
        requests = [asking(pool, A, "a"), asking(pool, A, "b"), asking(pool, B, "c")]
        await workers.loaded(A)
        await settle()
        pool.fail_all(ServeError(ErrorCode.SHUTTING_DOWN, "bye"))

        told = await asyncio.gather(*map(failure, requests))
        assert {each.message for each in told} == {"bye"}

"""What is seen of a model while it loads, and what its worker says of itself."""

from mlx_serve_common.wire import BatchBudget, Loading
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.server_events import Event, Loads
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import FakeWorkers, asking, settle
from tests.unit.gateway.pools import A, make_pool


def status(pool: Pool) -> LaneStatus:
    (found,) = pool.statuses()
    return found


async def test_a_load_is_seen_while_it_lasts(workers: FakeWorkers, clock: FakeClock) -> None:
    told: list[Event] = []
    async with make_pool(workers, clock, tell=told.append) as pool:
        request = asking(pool, A, "x")
        await settle()
        assert status(pool).load is not None
        clock.advance(3)
        workers.of(A).note(Loading("weights", 0.5))
        clock.advance(4)
        load = status(pool).load
        assert load is not None
        assert (load.stage, load.done, load.for_s, load.still_s) == ("weights", 0.5, 7, 4)
        assert [each for each in told if isinstance(each, Loads)] == [
            Loads(model="a", kind=A.kind, stage="weights", done=0.5)
        ]
        workers.of(A).become_ready()
        assert status(pool).load is None
        workers.of(A).answer()
        await request


async def test_the_next_worker_begins_anew(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        request = asking(pool, A, "x")
        first = await workers.loaded(A)
        first.note(BatchBudget(512, "measured"))
        assert status(pool).budget == BatchBudget(512, "measured")
        first.die()
        await settle()
        assert status(pool).budget is None
        load = status(pool).load
        assert load is not None and load.stage == "process"
        (await workers.loaded(A)).answer()
        await request

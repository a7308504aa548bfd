"""The pool under random events: limits hold, no model has two workers, every call is answered."""

import asyncio
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_serve_common.config import ChatConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_gateway.calls import EmbedCall, EmbedOptions
from mlx_serve_gateway.footprint import Footprints
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.worker import Failure
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import FakeWorker, FakeWorkers, settle, vector
from tests.unit.gateway.pools import GIB, make_pool, model

SLOTS = 2
MEMORY_GIB = 3.0
MODELS = [
    model("a", weights_gib=1),
    model("b"),
    model("c", weights_gib=2),
    model("pinned"),
    model("ranker", ModelKind.RERANKER, weights_gib=1),
    model("huge", weights_gib=9),
]
POISON = "poison"

TEXTS = st.lists(st.sampled_from(["x", "y", "z", POISON]), min_size=1, max_size=7)
WORKER = st.integers(0, 5)
EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(MODELS), TEXTS),
    st.tuples(st.just("ask"), st.sampled_from(MODELS), TEXTS, st.sampled_from([0, 1.0, math.inf])),
    st.tuples(st.just("preload"), st.sampled_from(MODELS)),
    st.tuples(st.just("unload"), st.sampled_from(MODELS)),
    st.tuples(st.just("retire"), st.sampled_from(MODELS), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("ready"), WORKER),
    st.tuples(st.just("answer"), WORKER, st.integers(1, 5)),
    st.tuples(st.just("reject"), WORKER),
    st.tuples(st.just("die"), WORKER, st.sampled_from(list(Failure))),
    st.tuples(st.just("leave"), WORKER),
    st.tuples(st.just("pass"), st.sampled_from([0.1, 3.0, 6.0, 31.0, 120.0])),
    st.just(("settle",)),
)


class World:
    """A pool, its fake workers, its clients; applies events and checks what must always hold."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.workers = FakeWorkers()
        self.pool: Pool = make_pool(
            self.workers,
            self.clock,
            slots=SLOTS,
            memory_gib=MEMORY_GIB,
            pinned=("pinned",),
            batch_items=3,
        )
        self.requests: list[tuple[list[str], asyncio.Task[list[bytes]]]] = []
        self.retirements: list[asyncio.Task[None]] = []

    async def ask(
        self, of: InstalledModel, texts: list[str], ttl_s: float | None = None
    ) -> list[bytes]:
        call = EmbedCall(list(texts), EmbedOptions())
        with self.pool.lease(of, ttl_s) as lane:
            await lane.answer(call)
        return call.vectors

    async def retire(self, of: InstalledModel, is_removed: bool) -> None:
        try:
            async with self.pool.retire(of, within_s=3600):
                for _ in range(3):
                    assert not [w for w in self.workers.living if w.model == of], "still there"
                    await asyncio.sleep(0)
                if not is_removed:
                    raise OSError
        except OSError:
            assert not is_removed
        except ServeError as error:
            assert error.code is ErrorCode.MODEL_BUSY

    def apply(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("ask", of, texts, *ttl):
                self.requests.append((texts, asyncio.ensure_future(self.ask(of, texts, *ttl))))
            case ("preload", of):
                self.pool.preload(of)
            case ("unload", of):
                self.pool.unload(of)
            case ("retire", of, is_removed):
                self.retirements.append(asyncio.ensure_future(self.retire(of, is_removed)))
            case ("cancel", number) if number < len(self.requests):
                self.requests[number][1].cancel()
            case ("pass", seconds):
                self.clock.advance(seconds)
                self.pool.tick()
            case (what, number, *more) if isinstance(number, int):
                living = self.workers.living
                if number < len(living):
                    self.act(living[number], what, *more)

    def act(self, worker: FakeWorker, what: str, *more: Any) -> None:
        match what:
            case "ready" if not worker.is_ready and worker.stop_reason is None:
                worker.become_ready()
            case "answer" if worker.held:
                worker.answer(list(worker.held)[: more[0]])
            case "reject" if worker.held:
                worker.reject(ErrorCode.INFERENCE_FAILED, list(worker.held)[:1])
            case "die" if more[0] in (Failure.UNLOADABLE, Failure.START_TIMEOUT):
                if not worker.is_ready:
                    worker.die(more[0], ServeError(ErrorCode.INVALID_MODEL, "unloadable"))
            case "die":
                worker.die(more[0])
            case "leave" if worker.stop_reason is not None:
                worker.leave()

    def check(self) -> None:
        living = self.workers.living
        for kind in ModelKind:
            assert sum(worker.model.kind is kind for worker in living) <= SLOTS
        memory = sum(
            Footprints(int(MEMORY_GIB * GIB), ChatConfig()).of(worker.model.manifest)
            for worker in living
        )
        assert memory <= MEMORY_GIB * GIB
        assert all(status.leases >= 0 for status in self.pool.statuses())
        open_requests = sum(not request.done() for _, request in self.requests)
        assert sum(status.leases for status in self.pool.statuses()) <= open_requests

    async def finish(self) -> None:
        """Healthy workers from here on, which die of poison only: everybody gets an answer."""
        for _ in range(600):
            if all(task.done() for task in (*self.retirements, *(r for _, r in self.requests))):
                return
            for worker in self.workers.living:
                if worker.stop_reason is not None:
                    worker.answer()
                    worker.leave()
                elif not worker.is_ready:
                    worker.become_ready()
                elif POISON in worker.held.values():
                    worker.die()
                else:
                    worker.answer()
            await settle()
            self.check()
            self.clock.advance(1.0)
            self.pool.tick()
        raise AssertionError(f"requests without an answer: {self.pool.statuses()}")

    def check_answers(self) -> None:
        for retirement in self.retirements:
            retirement.result()
        for texts, request in self.requests:
            if request.cancelled():
                continue
            if (error := request.exception()) is None:
                assert request.result() == [vector(text) for text in texts]
            else:
                assert isinstance(error, ServeError), error


@settings(max_examples=120, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens(events: list[tuple[Any, ...]]) -> None:
    asyncio.run(_live_through(events))


async def _live_through(events: list[tuple[Any, ...]]) -> None:
    world = World()
    async with asyncio.timeout(30):
        async with world.pool:
            for event in events:
                world.apply(event)
                if event[0] == "settle":
                    await settle()
                else:
                    await asyncio.sleep(0)
                world.check()
            await world.finish()
            world.check_answers()
        assert world.workers.living == []

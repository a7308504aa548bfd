"""Memory is given back once in a rest after work, and now and then at work."""

from collections.abc import Callable
from threading import Thread

import pytest

from mlx_serve_worker import spare_memory
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.compute import Compute
from mlx_serve_worker.generation import Generation
from mlx_serve_worker.preparation import Inputs, Item
from mlx_serve_worker.spare_memory import SpareMemory
from mlx_serve_worker.urgent_first import UrgentFirst
from tests.clock import FakeClock
from tests.unit.worker.test_compute import ScriptedBackend
from tests.unit.worker.test_generation import ScriptedGenerator
from tests.waiting import until


class Given:
    def __init__(self, clock: FakeClock) -> None:
        self.times = 0
        self.spare = SpareMemory(self._give, clock)

    def _give(self) -> None:
        self.times += 1


@pytest.fixture
def given(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.setattr(spare_memory, "_REST_S", 0.001)
    return Given(clock)


def test_a_rest_after_work_gives_it_back_once(given: Given) -> None:
    queue: UrgentFirst[Inputs] = UrgentFirst()
    given.spare.rest(queue)
    assert given.times == 0  # there was no work
    given.spare.worked()
    given.spare.rest(queue)
    given.spare.rest(queue)
    assert given.times == 1
    given.spare.worked()
    given.spare.rest(queue)
    assert given.times == 2


def test_where_work_waits_there_is_no_rest(given: Given) -> None:
    queue: UrgentFirst[Inputs] = UrgentFirst()
    queue.put(Inputs([], urgent=False))
    given.spare.worked()
    given.spare.rest(queue)
    assert given.times == 0


def test_it_is_given_back_now_and_then_at_work(given: Given, clock: FakeClock) -> None:
    for _ in range(31):
        clock.advance(1)
        given.spare.worked()
    assert given.times == 2


def never(_: int) -> bool:
    return False


def computing() -> tuple[ScriptedBackend, UrgentFirst[Inputs], Callable[[], None]]:
    backend = ScriptedBackend()
    ready: UrgentFirst[Inputs] = UrgentFirst()
    compute = Compute(
        backend, max_items=8, max_tokens=None, emit=lambda _: None, is_cancelled=never
    )
    ready.put(Inputs([Item(1, Prepared("a", 1, False))], urgent=False))
    return backend, ready, lambda: compute.run(ready)


def generating() -> tuple[ScriptedGenerator, UrgentFirst[Inputs], Callable[[], None]]:
    backend = ScriptedGenerator()
    ready: UrgentFirst[Inputs] = UrgentFirst()
    generation = Generation(backend, emit=lambda _: None, is_cancelled=never)
    ready.put(Inputs([Item(1, ["a"])], urgent=False))
    return backend, ready, lambda: generation.run(ready)


@pytest.mark.parametrize("make", [computing, generating])
@pytest.mark.parametrize("when", ["_REST_S", "_AT_WORK_S"])
def test_every_kind_of_work_gives_it_back(
    make: Callable[
        [], tuple[ScriptedBackend | ScriptedGenerator, UrgentFirst[Inputs], Callable[[], None]]
    ],
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spare_memory, "_REST_S", 60.0)
    monkeypatch.setattr(spare_memory, when, 0.0)
    monkeypatch.setattr(ScriptedGenerator, "patience_s", lambda _: 0.0)
    backend, queue, run = make()
    thread = Thread(target=run)
    thread.start()
    try:
        until(lambda: backend.given_back)
    finally:
        queue.close()
        thread.join()

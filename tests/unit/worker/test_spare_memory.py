"""Memory is given back once in a rest after work, and every minute at work."""

from collections.abc import Callable
from threading import Thread

import pytest

from mlx_serve_common.wire import Batch, Part
from mlx_serve_worker import spare_memory
from mlx_serve_worker.compute import Compute
from mlx_serve_worker.generation import Generation
from mlx_serve_worker.inbox import Inbox
from mlx_serve_worker.spare_memory import SpareMemory
from tests.clock import FakeClock
from tests.unit.worker.test_compute import ScriptedBackend, embed
from tests.unit.worker.test_generation import ScriptedGenerator, generate
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
    inbox = Inbox()
    given.spare.rest(inbox)
    assert given.times == 0  # there was no work
    given.spare.worked()
    given.spare.rest(inbox)
    given.spare.rest(inbox)
    assert given.times == 1
    given.spare.worked()
    given.spare.rest(inbox)
    assert given.times == 2


def test_where_work_waits_there_is_no_rest(given: Given) -> None:
    inbox = Inbox()
    inbox.put(Batch([]))
    given.spare.worked()
    given.spare.rest(inbox)
    assert given.times == 0


def test_it_is_given_back_every_minute_at_work(given: Given, clock: FakeClock) -> None:
    for _ in range(121):
        clock.advance(1)
        given.spare.worked()
    assert given.times == 2


def computing(inbox: Inbox) -> tuple[ScriptedBackend, Callable[[Inbox], None]]:
    backend = ScriptedBackend()
    compute = Compute(
        backend,
        max_items=8,
        max_tokens=None,
        emit=lambda result: inbox.settle(result.ids),
        is_cancelled=inbox.is_cancelled,
    )
    return backend, compute.run


def generating(inbox: Inbox) -> tuple[ScriptedGenerator, Callable[[Inbox], None]]:
    backend = ScriptedGenerator()
    generation = Generation(backend, emit=lambda _: None, is_cancelled=inbox.is_cancelled)
    return backend, generation.run


@pytest.mark.parametrize(
    ("make", "part"),
    [(computing, embed({1: "a"})), (generating, generate(1, "a"))],
    ids=["computing", "generating"],
)
@pytest.mark.parametrize("when", ["_REST_S", "_AT_WORK_S"])
def test_every_kind_of_work_gives_it_back(
    make: Callable[[Inbox], tuple[ScriptedBackend, Callable[[Inbox], None]]],
    part: Part,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spare_memory, "_REST_S", 60.0)
    monkeypatch.setattr(spare_memory, when, 0.0)
    monkeypatch.setattr(ScriptedGenerator, "patience_s", lambda _: 0.0)
    inbox = Inbox()
    backend, run = make(inbox)
    thread = Thread(target=run, args=[inbox])
    thread.start()
    inbox.put(Batch([part]))
    try:
        until(lambda: backend.given_back)
    finally:
        inbox.close()
        thread.join()

"""Waiting for a network that fails: how often, how long, and when no more."""

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.patience import Attempts, Patience, Trouble
from tests.clock import FakeClock

MEGABYTE = 1024**2


class Waits:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.seconds: list[float] = []
        self.attempts = Attempts(Patience(), clock, self)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.clock.advance(seconds)

    def given_up_after(self, trouble: Trouble, each_takes_s: float = 0.0) -> int:
        for count in range(1, 100):
            self.clock.advance(each_takes_s)
            try:
                self.attempts.failed(trouble)
            except ServeError as error:
                assert error.code is ErrorCode.UPSTREAM_ERROR
                return count
        raise AssertionError("it never gives up")


@pytest.fixture
def waits(clock: FakeClock) -> Waits:
    return Waits(clock)


def test_five_more_attempts_with_growing_waits(waits: Waits) -> None:
    assert waits.given_up_after(Trouble("no")) == 6
    assert len(waits.seconds) == 5
    assert waits.seconds == sorted(waits.seconds)
    assert sum(waits.seconds) < 40


def test_without_a_network_there_is_one_more(waits: Waits) -> None:
    begun = waits.clock()
    assert waits.given_up_after(Trouble("no", is_unreachable=True), each_takes_s=5) == 2
    assert waits.clock() - begun < 15


def test_network_that_was_there_may_come_back(waits: Waits) -> None:
    waits.attempts.progressed(1)
    assert waits.given_up_after(Trouble("no", is_unreachable=True)) == 6


def test_stall_ends_within_its_time(waits: Waits) -> None:
    begun = waits.clock()
    waits.given_up_after(Trouble("no"), each_takes_s=Patience().read_s)
    assert 60 <= waits.clock() - begun <= 65


def test_a_few_bytes_do_not_prolong_a_stall(waits: Waits) -> None:
    begun = waits.clock()
    with pytest.raises(ServeError):
        for _ in range(10):
            waits.attempts.progressed(1000)
            waits.clock.advance(20)
            waits.attempts.failed(Trouble("no"))
    assert waits.clock() - begun <= 65


def test_much_received_is_a_new_beginning(waits: Waits) -> None:
    for _ in range(100):
        waits.clock.advance(20)
        waits.attempts.failed(Trouble("no"))
        waits.attempts.progressed(MEGABYTE)
    assert max(waits.seconds) <= 1.2


def test_what_the_hub_asks_for_is_waited(waits: Waits) -> None:
    waits.attempts.failed(Trouble("busy", retry_after_s=90))
    assert waits.seconds == [90]
    waits.attempts.failed(Trouble("busy", retry_after_s=0))
    with pytest.raises(ServeError, match="come back in 3600 s") as refused:
        waits.attempts.failed(Trouble("busy", retry_after_s=3600))
    assert refused.value.retry_after_s == 3600
    assert len(waits.seconds) == 2

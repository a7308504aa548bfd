"""Progress: true, and not too often."""

from mlx_serve_common.events import JobEvent
from mlx_serve_worker.meter import Meter
from tests.clock import FakeClock

DIGEST = "sha256:" + "0" * 64


class Metered:
    def __init__(self, clock: FakeClock) -> None:
        self.events: list[JobEvent] = []
        self.meter = Meter(self.events.append, DIGEST, clock)
        self.meter.expect(1000)


def test_ten_a_second_and_the_end(clock: FakeClock) -> None:
    metered = Metered(clock)
    for _ in range(1000):
        metered.meter.received(1)
        clock.advance(0.01)
    assert 85 <= len(metered.events) <= 101
    metered.meter.tell()
    last = metered.events[-1]
    assert (last.completed, last.total, last.digest) == (1000, 1000, DIGEST)


def test_rate_is_that_of_the_network_of_late(clock: FakeClock) -> None:
    metered = Metered(clock)
    metered.meter.found(10**9)
    assert metered.events[-1].rate is None
    for _ in range(100):
        clock.advance(1)
        metered.meter.received(500)
    assert metered.events[-1].rate == 500
    for _ in range(20):
        clock.advance(1)
        metered.meter.received(100)
    assert metered.events[-1].rate == 100
    clock.advance(60)
    metered.meter.received(0)
    assert metered.events[-1].rate is None


def test_useless_bytes_are_taken_back(clock: FakeClock) -> None:
    metered = Metered(clock)
    metered.meter.received(600)
    metered.meter.found(-600)
    metered.meter.tell()
    assert metered.events[-1].completed == 0


def test_large_file_is_named_at_once(clock: FakeClock) -> None:
    metered = Metered(clock)
    metered.meter.begin("small.json", 10)
    metered.meter.begin("large.safetensors", 10**9)
    assert [event.detail for event in metered.events] == ["small.json", "large.safetensors"]

"""A leak is seen in noise, and noise is no leak."""

from random import Random

import pytest

from bench.soak.growth import Sample, climbs, trend

HOUR_S = 3600.0


def memory(per_hour: float, noise: float, seconds: float = 1200, count: int = 130) -> list[Sample]:
    random = Random(3)
    times = [seconds * number / (count - 1) for number in range(count)]
    return [Sample(at, 100 + per_hour * at / HOUR_S + random.gauss(0, noise)) for at in times]


@pytest.mark.parametrize("noise", [0, 0.3])
def test_a_leak_is_seen(noise: float) -> None:
    found = trend(memory(30, noise))
    assert found is not None
    assert found.per_hour == pytest.approx(30, abs=3)
    assert found.exceeds(4)


@pytest.mark.parametrize("per_hour", [-20, 0, 3])
@pytest.mark.parametrize("noise", [0, 0.3, 20])
def test_noise_is_not_a_leak(per_hour: float, noise: float) -> None:
    found = trend(memory(per_hour, noise))
    assert found is not None and not found.exceeds(4)


def test_what_settles_in_a_short_time_is_not_a_leak() -> None:
    short = trend(memory(60, 0, seconds=30))
    assert short is not None and not short.exceeds(4)
    assert short.most(4) == pytest.approx(124)
    longer = trend(memory(60, 0, seconds=300))
    assert longer is not None and longer.exceeds(4)


def test_a_peak_is_not_a_leak() -> None:
    samples = memory(0, 0.1)
    samples[60:75] = [sample._replace(value=400) for sample in samples[60:75]]
    found = trend(samples)
    assert found is not None and not found.exceeds(4)


def test_too_few_samples_say_nothing() -> None:
    assert trend(memory(100, 0, count=15)) is None


def counted(*values: int) -> list[Sample]:
    return [Sample(float(at), value) for at, value in enumerate(values)]


def test_what_is_counted_climbs_when_it_does_not_come_back() -> None:
    assert climbs(counted(10, 12, 11, 12, 13, 14, 15, 16))
    assert not climbs(counted(10, 12, 11, 18, 13, 14, 15, 12))
    assert not climbs(counted(10, 12))

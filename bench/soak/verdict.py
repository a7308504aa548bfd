"""What the samples of a soak say, as a table. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.soak.growth import Sample, climbs, trend
from bench.soak.samples import GATEWAY, HELD, MEMORY, Series

_GATEWAY_MIB = 4.0
_WORKER_MIB = 8.0
_LASTED = 0.9
"""Of the time after the warm-up: what was there for less is not judged."""
_SHORTEST_S = 60.0
"""In less every process is still warming up, whatever of the time was called the warm-up."""


class Line(NamedTuple):
    process: str
    measure: str
    first: float
    last: float
    growth: str
    grows: bool


def lines(found: Mapping[Series, Sequence[Sample]], *, warm_up_s: float) -> Iterator[Line]:
    warm = {
        series: [sample for sample in samples if sample.at_s >= warm_up_s]
        for series, samples in found.items()
    }
    # Of the time in which samples were taken: a busy machine may be late with all of them.
    longest = max(map(_lasted, warm.values()), default=0)
    for series, samples in warm.items():
        if samples and _lasted(samples) >= _LASTED * longest:
            yield _line(series, samples)


def _lasted(samples: Sequence[Sample]) -> float:
    return samples[-1].at_s - samples[0].at_s if samples else 0


def _line(series: Series, warm: Sequence[Sample]) -> Line:
    process, _, measure = series
    first, last = warm[0].value, warm[-1].value
    if _lasted(warm) < _SHORTEST_S:
        return Line(process, measure, first, last, "too short to say", False)
    if measure not in (MEMORY, HELD):
        grows = climbs(warm)
        return Line(process, measure, first, last, "climbs" if grows else "does not climb", grows)
    limit = _GATEWAY_MIB if process == GATEWAY else _WORKER_MIB
    found = trend(warm)
    if found is None:
        return Line(process, measure, first, last, "too few samples", False)
    told = (
        f"{found.per_hour:+.1f} ± {found.give_or_take:.1f} MiB/h"
        f" (limit {limit:g}, seen above {found.most(limit):.0f})"
    )
    return Line(process, measure, found.first, found.last, told, found.exceeds(limit))


def table(found: Sequence[Line]) -> str:
    rows = [("process", "measure", "first", "last", "growth", ""), ("---",) * 6]
    rows += [
        (
            line.process, line.measure, f"{line.first:.1f}", f"{line.last:.1f}", line.growth,
            "GROWS" if line.grows else "ok",
        )
        for line in found
    ]  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)

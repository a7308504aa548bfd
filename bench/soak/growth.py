"""Whether a series of samples grows, and how sure that is. Pure.

Invariants: only growth counts that neither the noise explains nor what an allocator still takes
when it has long been warm; so the shorter it was looked at, the more has to grow.
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import NamedTuple

BLOCKS = 8
"""Neighbours resemble each other, so medians of blocks are what the spread is taken of."""
_SURE = 2.45
"""Student's t for 97.5 % with two less degrees of freedom than there are blocks."""
_HOUR_S = 3600.0
_SETTLING = 1.0
"""MiB that are no leak, in however short a time."""


class Sample(NamedTuple):
    at_s: float
    value: float


class Trend(NamedTuple):
    first: float
    last: float
    per_hour: float
    give_or_take: float
    hours: float

    def most(self, limit_per_hour: float) -> float:
        """Growth per hour that is not told from that limit."""
        return limit_per_hour + _SETTLING / self.hours + self.give_or_take

    def exceeds(self, limit_per_hour: float) -> bool:
        return self.per_hour > self.most(limit_per_hour)


def trend(samples: Sequence[Sample]) -> Trend | None:
    """None when there are too few to say anything."""
    if len(samples) < 2 * BLOCKS:
        return None
    blocks = [_middle(samples[start:stop]) for start, stop in _cuts(len(samples))]
    mean_at = fmean(block.at_s for block in blocks)
    mean_value = fmean(block.value for block in blocks)
    spread = sum((block.at_s - mean_at) ** 2 for block in blocks)
    slope = sum((each.at_s - mean_at) * (each.value - mean_value) for each in blocks) / spread
    rest = sum((each.value - mean_value - slope * (each.at_s - mean_at)) ** 2 for each in blocks)
    error = (rest / (BLOCKS - 2) / spread) ** 0.5
    return Trend(
        first=blocks[0].value,
        last=blocks[-1].value,
        per_hour=slope * _HOUR_S,
        give_or_take=_SURE * error * _HOUR_S,
        hours=(samples[-1].at_s - samples[0].at_s) / _HOUR_S,
    )


def climbs(samples: Sequence[Sample]) -> bool:
    """Of what is counted: it never again comes down to what it was at most at first."""
    quarter = len(samples) // 4
    if not quarter:
        return False
    most_at_first = max(sample.value for sample in samples[:quarter])
    return min(sample.value for sample in samples[-quarter:]) > most_at_first


def _cuts(count: int) -> list[tuple[int, int]]:
    edges = [round(count * number / BLOCKS) for number in range(BLOCKS + 1)]
    return list(pairwise(edges))


def _middle(block: Sequence[Sample]) -> Sample:
    return Sample(fmean(each.at_s for each in block), median(each.value for each in block))

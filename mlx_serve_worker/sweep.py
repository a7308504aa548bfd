"""Which token budget suits a model on a device, from passes of several sizes. Pure: no clock.

A larger pass computes more per second, up to a point, and delays for longer whoever comes
meanwhile.

Invariants: nothing is concluded from times that were not reached twice, for then something else
ran; no pass is timed that is known to be too long; how many passes are asked for is bounded.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

LONGEST_PASS_S = 1.0
"""Nobody should wait for longer until a bulk load lets them go ahead."""
_ENOUGH = 0.9
"""A pass of twice the size that computes less than a tenth more is not worth the wait."""
_LEAST_ROUNDS = 3
_MOST_ROUNDS = 8
_STEADY = 1.1
"""Between the two shortest times of a size."""


class Pass(NamedTuple):
    tokens: int
    """That it computed."""
    seconds: float


class Sweep:
    def __init__(self, budgets: Sequence[int]) -> None:
        self._times: dict[int, list[float]] = {budget: [] for budget in sorted(budgets)}
        self._tokens: dict[int, int] = {}

    def next(self) -> int | None:
        """The budget whose pass is to be timed now; None when enough is known."""
        measured = self._measured()
        rounds = min(len(self._times[budget]) for budget in measured)
        if rounds >= _MOST_ROUNDS or (rounds >= _LEAST_ROUNDS and self.is_steady):
            return None
        # All of them in turn, so that a change of the machine's speed meets every one.
        return next(budget for budget in measured if len(self._times[budget]) == rounds)

    def add(self, budget: int, computed: Pass) -> None:
        self._times[budget].append(computed.seconds)
        self._tokens[budget] = computed.tokens

    @property
    def is_steady(self) -> bool:
        """Nothing else kept the machine busy."""
        return all(_is_steady(self._times[budget]) for budget in self._measured())

    def chosen(self) -> int:
        return chosen(
            {
                budget: Pass(self._tokens[budget], min(self._times[budget]))
                for budget in self._measured()
            }
        )

    def _measured(self) -> list[int]:
        """Those in question: whatever is larger than one whose passes are too long is not."""
        found: list[int] = []
        for budget, times in self._times.items():
            found.append(budget)
            if times and min(times) > LONGEST_PASS_S:
                break
        return found


def _is_steady(times: Sequence[float]) -> bool:
    shortest = sorted(times)[:2]
    return len(shortest) == 2 and shortest[1] <= _STEADY * shortest[0]


def chosen(shortest: Mapping[int, Pass]) -> int:
    """The smallest budget that computes about as much per second as any whose passes are not too
    long; the smallest of all where they all are."""
    fitting = {
        budget: each.tokens / each.seconds
        for budget, each in shortest.items()
        if each.seconds <= LONGEST_PASS_S
    }
    if not fitting:
        return min(shortest)
    best = max(fitting.values())
    return min(budget for budget, rate in fitting.items() if rate >= _ENOUGH * best)

"""Counters, histograms and gauges, and the text of them that Prometheus reads (its format 0.0.4).

prometheus_client makes several objects for each line of each scrape, on the loop that answers
requests; here a series keeps its text until it changes, and changing it takes no lock.
Invariant: whoever counts and whoever reads are on one thread.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Series(Protocol):
    def text(self) -> str: ...


S = TypeVar("S", bound=Series)


class Family(Generic[S]):
    """All series of one name, each made when it is first asked for."""

    def __init__(
        self,
        name: str,
        help: str,
        kind: str,
        labels: Sequence[str],
        make: Callable[[str, str], S],
    ) -> None:
        self._name = name
        self._head = _head(name, help, kind)
        self._labels = labels
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}

    def of(self, *values: str) -> S:
        series = self._series.get(values)
        if series is None:
            labels = _pairs(zip(self._labels, values, strict=True))
            series = self._series[values] = self._make(self._name, labels)
        return series

    def text(self) -> str:
        return self._head + "".join([series.text() for series in self._series.values()])


class Counter:
    def __init__(self, name: str, labels: str) -> None:
        self._start = f"{name}{{{labels}}} "
        self._value: float = 0
        self._text = ""

    def inc(self, amount: float = 1) -> None:
        self._value += amount
        self._text = ""

    def text(self) -> str:
        if not self._text:
            self._text = f"{self._start}{self._value}\n"
        return self._text


class Histogram:
    def __init__(self, bounds: Sequence[float], name: str, labels: str) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum: float = 0
        self._text = ""
        name, labels = name.replace("%", "%%"), labels.replace("%", "%%")
        limits = [*map(str, map(float, bounds)), "+Inf"]
        buckets = [f'{name}_bucket{{{labels},le="{limit}"}} %d\n' for limit in limits]
        self._template = "".join(buckets) + f"{name}_count{{{labels}}} %d\n{name}_sum{{{labels}}} "

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        self._text = ""

    def text(self) -> str:
        if not self._text:
            upto = tuple(accumulate(self._counts))
            self._text = f"{self._template % (*upto, upto[-1])}{self._sum}\n"
        return self._text


def reading(
    name: str, help: str, samples: Iterable[tuple[Mapping[str, str], float]], kind: str = "gauge"
) -> str:
    """What is read of something else at this moment."""
    series = [f"{name}{_braced(labels)} {value}\n" for labels, value in samples]
    return _head(name, help, kind) + "".join(series)


def _braced(labels: Mapping[str, str]) -> str:
    return f"{{{_pairs(labels.items())}}}" if labels else ""


def _head(name: str, help: str, kind: str) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n"


def _pairs(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

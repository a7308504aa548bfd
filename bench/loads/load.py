"""What a load is: rows of the table, and one round of them for each subject that can do it."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol, TypeVar

from bench.in_process import InProcess
from bench.processes import Server
from bench.subjects import Names

T = TypeVar("T")


class Row(NamedTuple):
    load: str
    measure: str
    unit: str
    more_is_better: bool = False


Found = dict[Row, float]


class Sizes(NamedTuple):
    """How much of each load a round is."""

    singles: int = 30
    crowd_rounds: int = 4
    batches: int = 5
    mixed: int = 512
    documents: int = 100
    tokens: int = 64
    streams: tuple[int, ...] = (1, 8, 16)
    requests: int = 500
    switches: int = 50


QUICK = Sizes(4, 1, 1, 16, 8, 4, (1, 2), 20, 2)
"""For seeing that everything runs."""


class Seat(NamedTuple):
    """A subject that is running."""

    names: Names
    server: Server


class Load(Protocol):
    @property
    def rows(self) -> Sequence[Row]: ...

    def suits(self, names: Names) -> bool: ...

    async def serve(self, seat: Seat) -> Found:
        """One round over HTTP."""

    async def compute(self, engine: InProcess) -> Found:
        """The same without a server; nothing where that has no meaning."""


class ServedOnly:
    """A load that has no meaning without a server."""

    async def compute(self, engine: InProcess) -> Found:
        return {}


async def timed(work: Awaitable[object]) -> float:
    started = perf_counter()
    await work
    return perf_counter() - started


HTTP_CPU = "the HTTP process's CPU"


async def with_cpu(server: Server, work: Awaitable[T]) -> tuple[T, float]:
    """What it comes to, and the milliseconds that the HTTP process has computed meanwhile."""
    before = server.cpu_seconds()
    done = await work
    return done, 1000 * (server.cpu_seconds() - before)


async def one_by_one(
    ask: Callable[[int], Awaitable[object]], count: int, *, within_s: float = math.inf
) -> list[float]:
    """Seconds of each, of fewer where they take too long."""
    until = perf_counter() + within_s
    found: list[float] = []
    while len(found) < count and (not found or perf_counter() < until):
        found.append(await timed(ask(len(found))))
    return found


async def crowd(
    ask: Callable[[int], Awaitable[object]], clients: int, rounds: int
) -> tuple[float, list[float]]:
    """So many clients, each asking again when it is answered: seconds of all, and of each."""

    async def client(number: int) -> list[float]:
        return [await timed(ask(number * rounds + again)) for again in range(rounds)]

    started = perf_counter()
    found = await asyncio.gather(*map(client, range(clients)))
    return perf_counter() - started, [seconds for each in found for seconds in each]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so much of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

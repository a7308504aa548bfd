"""The way through the server, with next to nothing computed at its end."""

from collections.abc import Sequence
from time import process_time

from bench import texts
from bench.in_process import InProcess
from bench.loads.embedding import PATH, body
from bench.loads.load import Found, Load, Row, Seat, Sizes, crowd, one_by_one, percentile
from bench.subjects import Names

_CLIENTS = 32
_TEXTS = 32


class Nothing:
    _median = Row("nothing computed, one client", "median", "ms")
    _rate = Row(f"nothing computed, {_CLIENTS} clients", "throughput", "requests/s", True)
    _own = Row(f"nothing computed, {_CLIENTS} clients", "this client's own CPU", "ms/request")
    rows: Sequence[Row] = (_median, _rate, _own)

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._text = texts.short(1)[0]

    def suits(self, names: Names) -> bool:
        return names.nothing is not None

    async def serve(self, seat: Seat) -> Found:
        given = body(seat.names.nothing, self._text)
        client = seat.server.client
        alone = await one_by_one(lambda _: client.post(PATH, given), self._requests)
        before = process_time()
        rounds = max(1, self._requests // _CLIENTS)
        total, each = await crowd(lambda _: client.post(PATH, given), _CLIENTS, rounds)
        return {
            self._median: 1000 * percentile(alone, 0.5),
            self._rate: len(each) / total,
            self._own: 1000 * (process_time() - before) / len(each),
        }

    async def compute(self, engine: InProcess) -> Found:
        return {}


class Wide:
    """Many large vectors in one answer: what the gateway does with the bytes of them."""

    def __init__(self, encoding: str, requests: int) -> None:
        load = f"{_TEXTS} vectors of 1024, nothing computed, {encoding}"
        self._cpu = Row(load, "the HTTP process's CPU", "ms/request")
        self._median = Row(load, "median", "ms")
        self.rows: Sequence[Row] = (self._cpu, self._median)
        self._requests = requests
        self._encoding = encoding
        self._texts = texts.short(_TEXTS)

    def suits(self, names: Names) -> bool:
        return names.wide is not None

    async def serve(self, seat: Seat) -> Found:
        given = body(seat.names.wide, self._texts, encoding_format=self._encoding)
        before = seat.server.cpu_seconds()
        found = await one_by_one(lambda _: seat.server.client.post(PATH, given), self._requests)
        cpu = seat.server.cpu_seconds() - before
        return {self._cpu: 1000 * cpu / len(found), self._median: 1000 * percentile(found, 0.5)}

    async def compute(self, engine: InProcess) -> Found:
        return {}


def loads(sizes: Sizes) -> list[Load]:
    return [
        Nothing(sizes.requests),
        Wide("float", sizes.requests),
        Wide("base64", sizes.requests),
    ]

"""The way through the server, with next to nothing computed at its end."""

import asyncio
from collections.abc import Sequence
from time import process_time

from bench import texts
from bench.echo import BYTES
from bench.in_process import InProcess
from bench.loads.chat import chat_body, listen
from bench.loads.embedding import PATH, body
from bench.loads.load import Found, Load, Row, Seat, Sizes, crowd, one_by_one, percentile
from bench.subjects import Names

_CLIENTS = 32
_TEXTS = 32
_STREAMS = (1, 8)
_CPU = "the HTTP process's CPU"


class _Asker:
    """What we are asked first says how much an echo answers after it."""

    def __init__(self) -> None:
        self._bytes = 0

    async def ask(self, seat: Seat, given: bytes) -> None:
        self._bytes = len(await seat.server.client.post(f"{PATH}?{BYTES}={self._bytes}", given))


class Nothing:
    _alone, _crowd = "nothing computed, one client", f"nothing computed, {_CLIENTS} clients"
    _median = Row(_alone, "median", "ms")
    _cpu_alone = Row(_alone, _CPU, "ms/request")
    _rate = Row(_crowd, "throughput", "requests/s", True)
    _cpu = Row(_crowd, _CPU, "ms/request")
    _own = Row(_crowd, "this client's own CPU", "ms/request")
    rows: Sequence[Row] = (_median, _cpu_alone, _rate, _cpu, _own)

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._text = texts.short(1)[0]
        self._asker = _Asker()

    def suits(self, names: Names) -> bool:
        return names.nothing is not None

    async def serve(self, seat: Seat) -> Found:
        given = body(seat.names.nothing, self._text)
        cpu = seat.server.cpu_seconds()
        alone = await one_by_one(lambda _: self._asker.ask(seat, given), self._requests)
        cpu_alone = seat.server.cpu_seconds() - cpu
        own, cpu = process_time(), seat.server.cpu_seconds()
        rounds = max(1, self._requests // _CLIENTS)
        total, each = await crowd(lambda _: self._asker.ask(seat, given), _CLIENTS, rounds)
        return {
            self._median: 1000 * percentile(alone, 0.5),
            self._cpu_alone: 1000 * cpu_alone / len(alone),
            self._rate: len(each) / total,
            self._cpu: 1000 * (seat.server.cpu_seconds() - cpu) / len(each),
            self._own: 1000 * (process_time() - own) / len(each),
        }

    async def compute(self, engine: InProcess) -> Found:
        return {}


class Wide:
    """Many large vectors in one answer: what the gateway does with the bytes of them."""

    def __init__(self, encoding: str, requests: int) -> None:
        load = f"{_TEXTS} vectors of 1024, nothing computed, {encoding}"
        self._cpu = Row(load, _CPU, "ms/request")
        self._median = Row(load, "median", "ms")
        self.rows: Sequence[Row] = (self._cpu, self._median)
        self._requests = requests
        self._encoding = encoding
        self._texts = texts.short(_TEXTS)
        self._asker = _Asker()

    def suits(self, names: Names) -> bool:
        return names.wide is not None

    async def serve(self, seat: Seat) -> Found:
        given = body(seat.names.wide, self._texts, encoding_format=self._encoding)
        before = seat.server.cpu_seconds()
        found = await one_by_one(lambda _: self._asker.ask(seat, given), self._requests)
        cpu = seat.server.cpu_seconds() - before
        return {self._cpu: 1000 * cpu / len(found), self._median: 1000 * percentile(found, 0.5)}

    async def compute(self, engine: InProcess) -> Found:
        return {}


class Words:
    """Answers of a model that says a word every 2 ms."""

    def __init__(self, streams: int, words: int) -> None:
        load = f"words, nothing computed, {streams} streams"
        self._cpu = Row(load if streams > 1 else load.removesuffix("s"), _CPU, "ms/word")
        self.rows: Sequence[Row] = (self._cpu,)
        self._streams, self._words = streams, words

    def suits(self, names: Names) -> bool:
        return names.talker is not None

    async def serve(self, seat: Seat) -> Found:
        prompt = f"__words:{self._words}__"
        given = chat_body(seat.names.talker, prompt, marks=(), tokens=self._words)
        before = seat.server.cpu_seconds()
        await asyncio.gather(*(listen(seat.server.client, given) for _ in range(self._streams)))
        cpu = seat.server.cpu_seconds() - before
        return {self._cpu: 1000 * cpu / (self._streams * self._words)}

    async def compute(self, engine: InProcess) -> Found:
        return {}


def loads(sizes: Sizes) -> list[Load]:
    return [
        Nothing(sizes.requests),
        Wide("float", sizes.requests),
        Wide("base64", sizes.requests),
        *(Words(streams, sizes.requests) for streams in _STREAMS),
    ]

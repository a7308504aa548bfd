"""The way through the server, with next to nothing computed at its end."""

import asyncio
from collections.abc import Sequence
from time import process_time

from bench import texts
from bench.echo import BYTES
from bench.loads.chat import chat_body, in_streams, listen
from bench.loads.embedding import PATH, body
from bench.loads.load import (
    HTTP_CPU,
    Found,
    Load,
    Row,
    Seat,
    ServedOnly,
    Sizes,
    crowd,
    one_by_one,
    percentile,
    with_cpu,
)
from bench.subjects import Names

_CLIENTS = 32
_TEXTS = 32
_STREAMS = (1, 8)


class _Asker:
    """What we are asked first says how much an echo answers after it."""

    def __init__(self) -> None:
        self._bytes = 0

    async def ask(self, seat: Seat, given: bytes) -> None:
        self._bytes = len(await seat.server.client.post(f"{PATH}?{BYTES}={self._bytes}", given))


class Nothing(ServedOnly):
    _alone, _crowd = "nothing computed, one client", f"nothing computed, {_CLIENTS} clients"
    _median = Row(_alone, "median", "ms")
    _cpu_alone = Row(_alone, HTTP_CPU, "ms/request")
    _rate = Row(_crowd, "throughput", "requests/s", True)
    _cpu = Row(_crowd, HTTP_CPU, "ms/request")
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
        one = one_by_one(lambda _: self._asker.ask(seat, given), self._requests)
        alone, cpu_alone = await with_cpu(seat.server, one)
        own = process_time()
        rounds = max(1, self._requests // _CLIENTS)
        many = crowd(lambda _: self._asker.ask(seat, given), _CLIENTS, rounds)
        (total, each), cpu = await with_cpu(seat.server, many)
        return {
            self._median: 1000 * percentile(alone, 0.5),
            self._cpu_alone: cpu_alone / len(alone),
            self._rate: len(each) / total,
            self._cpu: cpu / len(each),
            self._own: 1000 * (process_time() - own) / len(each),
        }


class Wide(ServedOnly):
    """Many large vectors in one answer: what the gateway does with the bytes of them."""

    def __init__(self, encoding: str, requests: int) -> None:
        load = f"{_TEXTS} vectors of 1024, nothing computed, {encoding}"
        self._cpu = Row(load, HTTP_CPU, "ms/request")
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
        asked = one_by_one(lambda _: self._asker.ask(seat, given), self._requests)
        found, cpu = await with_cpu(seat.server, asked)
        return {self._cpu: cpu / len(found), self._median: 1000 * percentile(found, 0.5)}


class Words(ServedOnly):
    """Answers of a model that says a word every 2 ms."""

    def __init__(self, streams: int, words: int) -> None:
        self._cpu = Row(f"words, nothing computed, {in_streams(streams)}", HTTP_CPU, "ms/word")
        self.rows: Sequence[Row] = (self._cpu,)
        self._streams, self._words = streams, words

    def suits(self, names: Names) -> bool:
        return names.talker is not None

    async def serve(self, seat: Seat) -> Found:
        prompt = f"__words:{self._words}__"
        given = chat_body(seat.names.talker, prompt, marks=(), tokens=self._words)
        answers = asyncio.gather(*(listen(seat.server.client, given) for _ in range(self._streams)))
        _, cpu = await with_cpu(seat.server, answers)
        return {self._cpu: cpu / (self._streams * self._words)}


def loads(sizes: Sizes) -> list[Load]:
    return [
        Nothing(sizes.requests),
        Wide("float", sizes.requests),
        Wide("base64", sizes.requests),
        *(Words(streams, sizes.requests) for streams in _STREAMS),
    ]

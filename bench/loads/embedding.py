"""Vectors: for one person, for many, for an index."""

from collections.abc import Sequence
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from bench import texts
from bench.in_process import EmbedTask, InProcess
from bench.loads.load import (
    HTTP_CPU,
    Found,
    Load,
    Row,
    Seat,
    Sizes,
    crowd,
    one_by_one,
    percentile,
    timed,
    with_cpu,
)
from bench.subjects import Names
from mlx_serve_gateway.batcher import BatchLimits

CROWD = 32
_PASSES = 32, BatchLimits().batch_items
"""As libraries do by themselves, and as texts come to our workers."""
PATH = "/v1/embeddings"


def body(model: str | None, given: str | list[str], **more: Any) -> bytes:
    return msgspec.json.encode({"model": model, "input": given} | more)


class _OfTexts:
    """A load that the embedding model is needed for."""

    rows: Sequence[Row] = ()

    def suits(self, names: Names) -> bool:
        return names.embedder is not None


class Single(_OfTexts):
    _load = "one text, one client"
    _median = Row(_load, "median", "ms")
    _slow = Row(_load, "p99", "ms")
    rows = (_median, _slow)

    def __init__(self, count: int) -> None:
        self._texts = texts.short(count)

    async def serve(self, seat: Seat) -> Found:
        bodies = [body(seat.names.embedder, text) for text in self._texts]
        found = await one_by_one(lambda at: seat.server.client.post(PATH, bodies[at]), len(bodies))
        return self._found(found)

    async def compute(self, engine: InProcess) -> Found:
        return self._found([await engine.seconds(EmbedTask([text], 1)) for text in self._texts])

    def _found(self, seconds: list[float]) -> Found:
        return {
            self._median: 1000 * percentile(seconds, 0.5),
            self._slow: 1000 * percentile(seconds, 0.99),
        }


class Crowd(_OfTexts):
    """The limit is computed in batches of the size that had formed here."""

    _load = f"one text each, {CROWD} clients"
    _rate = Row(_load, "throughput", "texts/s", True)
    _median = Row(_load, "median", "ms")
    _slow = Row(_load, "p99", "ms")
    rows = (_rate, _median, _slow)

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._texts = texts.short(CROWD * rounds)
        self._formed: int | None = None

    async def serve(self, seat: Seat) -> Found:
        bodies = [body(seat.names.embedder, text) for text in self._texts]
        client = seat.server.client
        before = await _batches(seat)
        total, each = await crowd(lambda at: client.post(PATH, bodies[at]), CROWD, self._rounds)
        if before is not None and (after := await _batches(seat)) is not None:
            inputs, batches = (now - then for now, then in zip(after, before, strict=True))
            self._formed = max(1, round(inputs / max(1, batches)))
        return {
            self._rate: len(self._texts) / total,
            self._median: 1000 * percentile(each, 0.5),
            self._slow: 1000 * percentile(each, 0.99),
        }

    async def compute(self, engine: InProcess) -> Found:
        at_a_time = self._formed or CROWD
        return {
            self._rate: len(self._texts) / await engine.seconds(EmbedTask(self._texts, at_a_time))
        }


class Mixed(_OfTexts):
    """One request, as an indexer sends it."""

    _load = "texts of mixed lengths, one request"
    _rate = Row(_load, "throughput", "texts/s", True)
    _padding = Row(_load, "padding", "%")

    def __init__(self, count: int) -> None:
        self._texts = texts.mixed(count)
        self._as_they_come = {
            Row(self._load, _as_they_come(size, padded=padded), "texts/s", True): EmbedTask(
                self._texts, size, in_one_pass=True, padded=padded
            )
            for size in _PASSES
            for padded in (False, True)
        }
        self.rows = (self._rate, *self._as_they_come, self._padding)

    async def serve(self, seat: Seat) -> Found:
        before = await _tokens(seat)
        asked = seat.server.client.post(PATH, body(seat.names.embedder, self._texts))
        rate = len(self._texts) / await timed(asked)
        found = dict.fromkeys([self._rate, *self._as_they_come], rate)
        after = await _tokens(seat)
        if before is not None and after is not None:
            read, padding = (now - then for now, then in zip(after, before, strict=True))
            found[self._padding] = 100 * padding / (read + padding)
        return found

    async def compute(self, engine: InProcess) -> Found:
        count = len(self._texts)
        tasks = {self._rate: EmbedTask(self._texts, count)} | self._as_they_come
        return {row: count / await engine.seconds(task) for row, task in tasks.items()}


def _as_they_come(size: int, *, padded: bool) -> str:
    how = ", padding computed by all layers" if padded else ""
    return f"throughput, {size} a pass as they come{how}"


class Encoded(_OfTexts):
    def __init__(self, encoding: str, count: int) -> None:
        load = f"{CROWD} short texts, {encoding}"
        self._median = Row(load, "median", "ms")
        self._cpu = Row(load, HTTP_CPU, "ms")
        self.rows = (self._median, self._cpu)
        self._count = count
        self._encoding = encoding
        self._texts = texts.short(CROWD)

    async def serve(self, seat: Seat) -> Found:
        given = body(seat.names.embedder, self._texts, encoding_format=self._encoding)
        asked = one_by_one(lambda _: seat.server.client.post(PATH, given), self._count)
        found, cpu = await with_cpu(seat.server, asked)
        return {self._median: 1000 * percentile(found, 0.5), self._cpu: cpu / self._count}

    async def compute(self, engine: InProcess) -> Found:
        task = EmbedTask(self._texts, CROWD)
        found = [await engine.seconds(task) for _ in range(self._count)]
        return {self._median: 1000 * percentile(found, 0.5)}


def loads(sizes: Sizes) -> list[Load]:
    return [
        Single(sizes.singles),
        Crowd(sizes.crowd_rounds),
        Mixed(sizes.mixed),
        Encoded("float", sizes.batches),
        Encoded("base64", sizes.batches),
    ]


# --- what our own metrics say --------------------------------------------------------------------


async def _tokens(seat: Seat) -> tuple[float, float] | None:
    """Those read and those that were padding; None for a server without these metrics."""
    return await _metrics(
        seat,
        *(
            ("mlx_serve_tokens_total", {"model": "embedder", "kind": kind})
            for kind in ("input", "padding")
        ),
    )


async def _batches(seat: Seat) -> tuple[float, float] | None:
    """Inputs and micro-batches so far."""
    names = (f"mlx_serve_batch_size_{part}" for part in ("sum", "count"))
    return await _metrics(seat, *((name, {"endpoint": PATH}) for name in names))


async def _metrics(seat: Seat, *wanted: tuple[str, dict[str, str]]) -> tuple[float, float] | None:
    if seat.names.nothing is None:
        return None
    exposed = (await seat.server.client.get("/metrics")).decode()
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
    }
    first, second = (samples.get((name, frozenset(labels.items())), 0.0) for name, labels in wanted)
    return first, second

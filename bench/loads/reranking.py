"""Scores of documents for one query."""

from collections.abc import Sequence

import msgspec

from bench import texts
from bench.in_process import InProcess, RerankTask
from bench.loads.load import Found, Load, Row, Seat, Sizes, timed
from bench.subjects import Names

_QUERY = "which model stays in memory?"


class Rerank:
    def __init__(self, count: int) -> None:
        self._rate = Row(f"reranking {count} documents", "throughput", "documents/s", True)
        self.rows: Sequence[Row] = (self._rate,)
        self._documents = texts.documents(count)

    def suits(self, names: Names) -> bool:
        return names.reranker is not None

    async def serve(self, seat: Seat) -> Found:
        given = {"model": seat.names.reranker, "query": _QUERY, "documents": self._documents}
        asked = seat.server.client.post("/v1/rerank", msgspec.json.encode(given))
        return {self._rate: len(self._documents) / await timed(asked)}

    async def compute(self, engine: InProcess) -> Found:
        seconds = await engine.seconds(RerankTask(_QUERY, self._documents))
        return {self._rate: len(self._documents) / seconds}


def loads(sizes: Sizes) -> list[Load]:
    return [Rerank(sizes.documents)]

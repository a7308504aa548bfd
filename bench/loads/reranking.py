"""Scores of documents for one query."""

from collections.abc import Sequence

import msgspec

from bench import texts
from bench.in_process import InProcess, RerankTask
from bench.loads.load import Found, Load, Row, Seat, Sizes, timed
from bench.subjects import Names

PATH = "/v1/rerank"
_QUERY = "which model stays in memory?"


def rerank_body(model: str | None, documents: list[str]) -> bytes:
    return msgspec.json.encode({"model": model, "query": _QUERY, "documents": documents})


class Rerank:
    def __init__(self, count: int) -> None:
        self._rate = Row(f"reranking {count} documents", "throughput", "documents/s", True)
        self.rows: Sequence[Row] = (self._rate,)
        self._documents = texts.documents(count)

    def suits(self, names: Names) -> bool:
        return names.reranker is not None

    async def serve(self, seat: Seat) -> Found:
        asked = seat.server.client.post(PATH, rerank_body(seat.names.reranker, self._documents))
        return {self._rate: len(self._documents) / await timed(asked)}

    async def compute(self, engine: InProcess) -> Found:
        seconds = await engine.seconds(RerankTask(_QUERY, self._documents))
        return {self._rate: len(self._documents) / seconds}


def loads(sizes: Sizes) -> list[Load]:
    return [Rerank(sizes.documents)]

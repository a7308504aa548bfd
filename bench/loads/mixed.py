"""A person who waits, while an index is being built with the same machine."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bench import texts
from bench.loads.chat import chat_body, listen, new_prompt
from bench.loads.embedding import PATH, body
from bench.loads.load import Found, Load, Row, Seat, ServedOnly, Sizes, one_by_one, percentile
from bench.loads.reranking import PATH as RERANK
from bench.loads.reranking import rerank_body
from bench.subjects import Names

_INDEXERS = 2
_TEXTS = 128
_WITHIN_S = 20.0
"""Where a query waits for the whole load before it, a few of them say enough."""


@asynccontextmanager
async def indexing(seat: Seat) -> AsyncIterator[None]:
    """Two clients ask for vectors of many texts again and again."""
    given = body(seat.names.embedder, texts.mixed(_TEXTS))
    is_over = False

    async def indexer() -> None:
        while not is_over:
            await seat.server.client.post(PATH, given)

    # The first answer shows that the load is there.
    await seat.server.client.post(PATH, given)
    indexers = [asyncio.ensure_future(indexer()) for _ in range(_INDEXERS)]
    try:
        await asyncio.sleep(0)
        yield
        # Who hung up would leave the server computing, beside what is measured next.
        is_over = True
        await asyncio.gather(*indexers)
    finally:
        for task in indexers:
            task.cancel()


class QueryBesideIndexing(ServedOnly):
    _load = "one text, while an index is built"
    _median = Row(_load, "median", "ms")
    _slow = Row(_load, "p99", "ms")
    rows: Sequence[Row] = (_median, _slow)

    def __init__(self, count: int) -> None:
        self._texts = texts.short(count)

    def suits(self, names: Names) -> bool:
        return names.embedder is not None

    async def serve(self, seat: Seat) -> Found:
        bodies = [body(seat.names.embedder, text) for text in self._texts]
        async with indexing(seat):
            found = await one_by_one(
                lambda at: seat.server.client.post(PATH, bodies[at]),
                len(bodies),
                within_s=_WITHIN_S,
            )
        return {
            self._median: 1000 * percentile(found, 0.5),
            self._slow: 1000 * percentile(found, 0.99),
        }


class RankingBesideIndexing(ServedOnly):
    """Another model, in a process of its own, on the same machine."""

    _alone = Row("two documents ranked", "p99", "ms")
    _load = "two documents ranked, while an index is built"
    _median = Row(_load, "median", "ms")
    _slow = Row(_load, "p99", "ms")
    rows: Sequence[Row] = (_alone, _median, _slow)

    def __init__(self, count: int) -> None:
        self._count = count
        self._documents = texts.short(2)

    def suits(self, names: Names) -> bool:
        return names.embedder is not None and names.reranker is not None

    async def serve(self, seat: Seat) -> Found:
        alone = await self._seconds(seat)
        async with indexing(seat):
            beside = await self._seconds(seat)
        return {
            self._alone: 1000 * percentile(alone, 0.99),
            self._median: 1000 * percentile(beside, 0.5),
            self._slow: 1000 * percentile(beside, 0.99),
        }

    async def _seconds(self, seat: Seat) -> list[float]:
        given = rerank_body(seat.names.reranker, self._documents)
        client = seat.server.client
        return await one_by_one(
            lambda _: client.post(RERANK, given), self._count, within_s=_WITHIN_S
        )


class ChatBesideIndexing(ServedOnly):
    _alone = Row("chat, 1 stream", "between two tokens, p99", "ms")
    _beside = Row("chat, 1 stream, while an index is built", "between two tokens, p99", "ms")
    rows: Sequence[Row] = (_alone, _beside)

    def __init__(self, tokens: int, marks: Sequence[int]) -> None:
        self._tokens, self._marks = tokens, marks

    def suits(self, names: Names) -> bool:
        return names.embedder is not None and names.chat is not None

    async def serve(self, seat: Seat) -> Found:
        alone = await self._slowest(seat)
        async with indexing(seat):
            beside = await self._slowest(seat)
        return {self._alone: alone, self._beside: beside}

    async def _slowest(self, seat: Seat) -> float:
        prompt = new_prompt(seat.server.pid)
        given = chat_body(seat.names.chat, prompt, self._marks, self._tokens)
        stream = await listen(seat.server.client, given)
        return 1000 * percentile(stream.gaps or [0.0], 0.99)


def loads(sizes: Sizes, marks: Sequence[int]) -> list[Load]:
    return [
        QueryBesideIndexing(sizes.singles),
        RankingBesideIndexing(sizes.singles),
        ChatBesideIndexing(sizes.tokens, marks),
    ]

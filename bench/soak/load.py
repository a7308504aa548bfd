"""What many people ask of a server at the same time: each rests for as long as it was answered.

Invariants: an answer that is refused ends the soak; the load is the same at its end as before.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from random import Random
from time import perf_counter
from typing import cast

import msgspec

from bench import texts
from bench.http_client import Client
from bench.loads.chat import chat_body, new_prompt
from bench.loads.embedding import PATH, body
from bench.loads.reranking import PATH as RERANK
from bench.loads.reranking import rerank_body
from bench.models import NOTHING

_PIECES_HEARD = 5
_VISIT_S = 1.0
_LONGEST_REST_S = 0.5

Ask = Callable[[], Awaitable[None]]


class SoakLoad:
    def __init__(self, client: Client, marks: list[int], tokens: int) -> None:
        self._client = client
        self._marks = marks
        self._tokens = tokens
        self._random = Random(7)
        self._texts = texts.mixed(512)
        self._numbers = itertools.count()
        self.answered = 0

    async def run(self, ends_at: float) -> None:
        kinds: list[Ask] = [self._embed, self._embed, self._rerank, self._tokenize, self._chat]
        async with asyncio.TaskGroup() as clients:
            for ask in (*kinds, self._chat):
                clients.create_task(self._client_of(ask, ends_at, _LONGEST_REST_S))
            clients.create_task(self._client_of(self._visit, ends_at, _VISIT_S))

    async def _client_of(self, ask: Ask, ends_at: float, rest_s: float) -> None:
        while (started := perf_counter()) < ends_at:
            await ask()
            self.answered += 1
            await asyncio.sleep(min(rest_s, perf_counter() - started))

    def _some_texts(self) -> list[str]:
        count = self._random.choice((1, 1, 2, 8, 32))
        return self._random.choices(self._texts, k=count)

    async def _embed(self) -> None:
        encoding = self._random.choice(("float", "base64"))
        given = body("embedder", self._some_texts(), encoding_format=encoding)
        await self._client.post(PATH, given)

    async def _rerank(self) -> None:
        await self._client.post(RERANK, rerank_body("reranker", self._some_texts()))

    async def _tokenize(self) -> None:
        given = {"model": "embedder", "input": self._some_texts()}
        await self._client.post("/v1/tokenize", msgspec.json.encode(given))

    async def _chat(self) -> None:
        """Every third listener leaves in the middle of the answer."""
        given = chat_body("chat", new_prompt(0), self._marks, self._tokens)
        leaves = next(self._numbers) % 3 == 0
        chunks = self._client.stream("/v1/chat/completions", given)
        async with aclosing(cast(AsyncGenerator[bytes], chunks)):
            heard = 0
            async for _ in chunks:
                heard += 1
                if leaves and heard >= _PIECES_HEARD:
                    return

    async def _visit(self) -> None:
        """A model is loaded for one request and leaves after it."""
        given = {"model": NOTHING, "input": "text", "keep_alive": 0}
        await self._client.post("/api/embed", msgspec.json.encode(given))

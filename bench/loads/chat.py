"""Answers in words, one stream or several."""

import asyncio
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import msgspec

from bench import texts
from bench.http_client import Client
from bench.in_process import ChatTask, InProcess
from bench.loads.load import Found, Load, Row, Seat, Sizes, percentile
from bench.subjects import Names

_NEVER = -100.0
_CONTENT = re.compile(rb'"content": ?"((?:[^"\\]|\\.)*)"')

_numbers: dict[int, Iterator[int]] = defaultdict(itertools.count)
"""Of each subject: all are asked the same, and nobody twice."""
_IN_PROCESS = 0


class Stream(NamedTuple):
    first: float
    """Seconds until the first piece of the answer."""
    gaps: list[float]


def new_prompt(subject: int) -> str:
    return texts.prompt(next(_numbers[subject]))


def chat_body(model: str | None, prompt: str, marks: Sequence[int], tokens: int) -> bytes:
    given = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "stream": True,
        # Every answer has the same length.
        "logit_bias": {str(mark): _NEVER for mark in marks},
    }
    return msgspec.json.encode(given)


async def listen(client: Client, body: bytes) -> Stream:
    started = perf_counter()
    chunks = client.stream("/v1/chat/completions", body)
    heard = [perf_counter() async for chunk in chunks if _says(chunk)]
    if not heard:
        raise RuntimeError("an answer without a word")
    gaps = [later - sooner for sooner, later in itertools.pairwise(heard)]
    return Stream(heard[0] - started, gaps)


def _says(chunk: bytes) -> bool:
    """Whether there is a word in it: some servers begin with an empty piece."""
    return any(found[1] for found in _CONTENT.finditer(chunk))


def in_streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"


class Chat:
    def __init__(self, streams: int, tokens: int, marks: Sequence[int]) -> None:
        load = f"chat, {in_streams(streams)}"
        self._rate = Row(load, "throughput", "tokens/s", True)
        self._first = Row(load, "first token, median", "ms")
        self._last = Row(load, "first token, p99", "ms")
        self.rows: Sequence[Row] = (self._rate, self._first, self._last)
        self._streams, self._tokens, self._marks = streams, tokens, marks

    def suits(self, names: Names) -> bool:
        return names.chat is not None

    async def serve(self, seat: Seat) -> Found:
        prompts = [new_prompt(seat.server.pid) for _ in range(self._streams)]
        bodies = [chat_body(seat.names.chat, each, self._marks, self._tokens) for each in prompts]
        started = perf_counter()
        found = await asyncio.gather(*(listen(seat.server.client, body) for body in bodies))
        rate = self._streams * self._tokens / (perf_counter() - started)
        firsts = [1000 * stream.first for stream in found]
        return {
            self._rate: rate,
            self._first: percentile(firsts, 0.5),
            self._last: percentile(firsts, 0.99),
        }

    async def compute(self, engine: InProcess) -> Found:
        prompts = [new_prompt(_IN_PROCESS) for _ in range(self._streams)]
        task = ChatTask(prompts, self._tokens)
        return {self._rate: self._streams * self._tokens / await engine.seconds(task)}


def loads(sizes: Sizes, marks: Sequence[int]) -> list[Load]:
    return [Chat(streams, sizes.tokens, marks) for streams in sizes.streams]

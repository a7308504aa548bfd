"""The load that others are measured beside."""

import asyncio
from typing import cast

import pytest

from bench.http_client import Client
from bench.loads.load import Seat
from bench.loads.mixed import indexing
from bench.processes import Server
from bench.subjects import Names


class _Slow:
    """Takes some turns of the loop for an answer, and counts who is waiting."""

    def __init__(self) -> None:
        self.client = cast(Client, self)
        self.asked = 0
        self.answered = 0

    async def post(self, path: str, body: bytes) -> bytes:
        self.asked += 1
        for _ in range(5):
            await asyncio.sleep(0)
        self.answered += 1
        return b""


@pytest.mark.parametrize("turns", range(12))
async def test_nothing_is_left_to_compute_beside_what_comes_next(turns: int) -> None:
    server = _Slow()
    async with indexing(Seat(Names(embedder="e"), cast(Server, server))):
        for _ in range(turns):
            await asyncio.sleep(0)
        assert server.asked > server.answered > 0
    assert server.asked == server.answered


async def test_who_ends_the_measurement_waits_for_nobody() -> None:
    server = _Slow()
    others = asyncio.all_tasks()
    with pytest.raises(RuntimeError, match="ended"):
        async with indexing(Seat(Names(embedder="e"), cast(Server, server))):
            left = asyncio.all_tasks() - others
            raise RuntimeError("ended")
    assert server.asked > server.answered
    await asyncio.wait(left)
    assert all(task.cancelled() for task in left)

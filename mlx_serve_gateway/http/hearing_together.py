"""Several calls to a model at the same time, heard as one: for a request with several prompts.

Invariants: answers are numbered through, in the order of the calls; one that fails ends them all;
who listens slowly slows the listening to each of them, so that nothing piles up here.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.answering import Heard

_Heard = asyncio.Queue[list[Said] | Exception | None]
"""None when one of them has ended."""


class HearingTogether(Heard):
    def __init__(self, parts: Sequence[Heard]) -> None:
        self._parts = parts
        self.size = sum(part.size for part in parts)

    async def pieces(self) -> AsyncGenerator[list[Said]]:
        heard: _Heard = asyncio.Queue(1)
        # A TaskGroup would wrap the GeneratorExit of a listener that leaves.
        tasks: list[asyncio.Future[None]] = []
        first = 0
        for part in self._parts:
            tasks.append(asyncio.ensure_future(_listen(part, first, heard)))
            first += part.size
        running = len(tasks)
        try:
            while running:
                match await heard.get():
                    case None:
                        running -= 1
                    case Exception() as error:
                        raise error
                    case said:
                        yield said
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _listen(part: Heard, first: int, heard: _Heard) -> None:
    try:
        async with aclosing(part.pieces()) as pieces:
            async for said in pieces:
                await heard.put([each._replace(choice=first + each.choice) for each in said])
    except Exception as error:
        await heard.put(error)
    else:
        await heard.put(None)

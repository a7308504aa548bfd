"""A call whose answers are heard while they are being said.

Invariants: what was said is heard once, in order; pieces that come faster than they are fetched
are kept together, so that a slow reader costs no more than the text; after ``hear_all`` has ended
every answer is finished.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import msgspec

from mlx_serve_common.chat import Delta, Prompt, Sampling
from mlx_serve_common.wire import Generate, Generated, Part, Result
from mlx_serve_gateway.alarm import Alarm
from mlx_serve_gateway.calls import Call
from mlx_serve_gateway.priority import Priority


class Said(NamedTuple):
    choice: int
    delta: Delta


class GenerateCall(Call):
    """One prompt, and one or more answers to it."""

    is_repeatable = False
    answered_by = Generated
    # Answers share every step of their model, whoever they are for.
    priority = Priority.INTERACTIVE

    def __init__(self, prompt: Prompt, sampling: Sampling, choices: int = 1) -> None:
        super().__init__([len(msgspec.msgpack.encode(prompt))] * choices)
        self._prompt = prompt
        self._sampling = sampling
        self._said: list[Said] = []
        self._change: asyncio.Future[None] | None = None
        """Whoever listens waits for it."""
        self._silence: Alarm | None = None
        self._patient_until = 0.0
        self.done.add_done_callback(self._on_done)

    async def hear_all(self, patience_s: float) -> AsyncGenerator[list[Said]]:
        """What was said since the last time, nothing if that was ``patience_s`` ago.

        Raises ``ServeError`` when no more will come.
        """
        try:
            while True:
                if not self._said and not self.done.done():
                    await self._change_within(patience_s)
                said, self._said = self._said, []
                if said or not self.done.done():
                    yield said
                if self.done.done() and not self._said:
                    self.done.result()
                    return
        finally:
            if self._silence is not None:
                self._silence.clear()
                # It knows us: freed with us only without it.
                self._silence = None

    async def _change_within(self, patience_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._silence is None:
            self._silence = Alarm(loop.time, self._look)
        # It is left to ring for an earlier word: a timer for each costs more than the word.
        self._patient_until = loop.time() + patience_s
        self._silence.set(self._patient_until)
        self._change = loop.create_future()
        await self._change

    def _look(self) -> None:
        if self._silence is not None and asyncio.get_running_loop().time() < self._patient_until:
            self._silence.set(self._patient_until)
        else:
            self._wake()

    def hear(self, id: int, delta: Delta) -> None:
        self._said.append(Said(id - self.first_id, delta))
        self._wake()
        if delta.finish is not None:
            self.remaining -= 1
            if self.remaining == 0 and not self.done.done():
                self.done.set_result(None)

    def _on_done(self, done: "asyncio.Future[None]") -> None:
        if not done.cancelled():
            # Whoever has left will not ask how it ended.
            done.exception()
        self._wake()

    def _wake(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def part(self, ids: Sequence[int]) -> Part:
        choices = [id - self.first_id for id in ids]
        return Generate(list(ids), choices, self._prompt, self._sampling)

    def _item(self, index: int) -> object:
        return [self._prompt, self._sampling]

    def _take(self, result: Result, positions: Sequence[int]) -> None:
        raise AssertionError("an answer is heard in pieces")

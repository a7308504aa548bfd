"""A worker's turn to compute, where several share a device.

Invariants: nobody is asked and nobody is told: each worker says on its line of the board what it is
doing and reads the lines of the others, so one that dies leaves nothing that must be given back but
its line, which the gateway wipes. Who has no line never waits.
"""

import math
import time
from collections.abc import Callable

from mlx_serve_common.turn_board import NO_FILE, Claim, Doing, Told, TurnBoard
from mlx_serve_worker.turns import may_compute

_LOOK_AGAIN_S = 0.001
"""A micro-batch takes tens of these. Whoever had to be told could be forgotten, and whoever tells
could be stopped."""


def _never() -> bool:
    return False


class Lease:
    def __init__(
        self,
        board: TurnBoard,
        line: int,
        *,
        places: int | None,
        patience_s: float,
        memory_bytes: Callable[[], int],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._board = board
        self._line = line
        self._places = math.inf if places is None else places
        self._patience_s = patience_s
        self._memory_bytes = memory_bytes
        self._now = now
        self._sleep = sleep
        self._began: float | None = None
        """Its turn, if it is that of a bulk load."""
        self._last_bulk_s = 0.0
        self._waited_s = 0.0

    @classmethod
    def alone(cls) -> "Lease":
        """For whoever computes without a gateway."""
        board = TurnBoard(NO_FILE)
        return cls(board, 0, places=None, patience_s=0, memory_bytes=lambda: 0)

    def hurry(self) -> None:
        """Somebody waits for what is computed until ``give_back``: others give way."""
        self._began = None
        self._say(Doing.HURRYING, self._now())

    def ask(self) -> Claim:
        """For the turn of a bulk load; the time waited counts from now."""
        now = self._now()
        return Claim(self._line, Doing.WAITING, now, now + self._last_bulk_s)

    def take(self, turn: Claim, give_way: Callable[[], bool] = _never) -> bool:
        """Wait for it; False as soon as ``give_way`` says so, and it may be taken again."""
        self._board.say(turn)
        while not self._may_compute(turn):
            if give_way():
                self._board.say(turn._replace(doing=Doing.NOTHING))
                return False
            self._sleep(_LOOK_AGAIN_S)
        now = self._began = self._now()
        self._waited_s += now - turn.since
        self._say(Doing.COMPUTING, now)
        return True

    def _may_compute(self, turn: Claim) -> bool:
        # The lines first: whoever has written since then is younger than this moment.
        claims = self._board.claims()
        now = self._now()
        return may_compute(turn, claims, now, places=self._places, patience_s=self._patience_s)

    def give_back(self) -> None:
        now = self._now()
        if self._began is not None:
            self._last_bulk_s = now - self._began
        self._say(Doing.NOTHING, now)

    def _say(self, doing: Doing, now: float) -> None:
        self._board.say(Claim(self._line, doing, now, now))
        self._board.tell(self._line, Told(self._waited_s, self._memory_bytes()))

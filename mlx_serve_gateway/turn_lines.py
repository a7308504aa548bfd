"""Which worker has which line of the board on which they take turns.

Invariants: a line is wiped when it is given out and when its worker has been reaped, so nobody
waits for the dead; without a free line a worker computes whenever it likes.
"""

import os

from mlx_serve_common.turn_board import LINES, Told, TurnBoard, make_board


class TurnLines:
    def __init__(self) -> None:
        self.descriptor = make_board()
        """What each worker process is given."""
        self._board = TurnBoard(self.descriptor)
        self._lines: dict[str, int] = {}

    def claim(self, model: str) -> int | None:
        """A line for the model's next worker."""
        line = next((line for line in range(LINES) if line not in self._lines.values()), None)
        if line is not None:
            self._board.clear(line)
            self._lines[model] = line
        return line

    def free(self, model: str) -> None:
        if (line := self._lines.pop(model, None)) is not None:
            self._board.clear(line)

    def told(self, model: str) -> Told | None:
        """By the model's worker."""
        line = self._lines.get(model)
        return None if line is None else self._board.told(line)

    def close(self) -> None:
        self._board.close()
        os.close(self.descriptor)

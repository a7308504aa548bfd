"""What a worker prints: kept moving, so that a full pipe never stops it, and partly kept.

Invariants: at most ``TAIL_BYTES`` are remembered and at most ``LINES_PER_SECOND`` lines of one
worker reach the log, whatever it prints; what was left out is counted there.
"""

import asyncio
import logging
import os
from collections.abc import Callable

TAIL_BYTES = 64 * 1024
LINES_PER_SECOND = 20

log = logging.getLogger(__name__)


class Output:
    """The read end of the pipe that is a worker's stdout and stderr."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.name = name
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._partial = b""
        self._second = 0
        self._lines = 0
        self._left_out = 0
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._loop.add_reader(self._read_end, self._on_readable)

    def close_write_end(self) -> None:
        os.close(self.write_end)

    def close(self) -> None:
        self._on_readable()
        if self._read_end >= 0:
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1
            if self._partial:  # what a process says last need not end its line
                self._log(self._partial)
            self._tell_left_out()

    def _on_readable(self) -> None:
        if self._read_end < 0:
            return
        try:
            data = os.read(self._read_end, TAIL_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._read_end)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[-TAIL_BYTES:]
        for line in lines:
            self._log(line)

    def _log(self, line: bytes) -> None:
        second = int(self._now())
        if second != self._second:
            self._tell_left_out()
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_PER_SECOND:
            log.info("%s: %s", self.name, line.decode(errors="replace"))
        else:
            self._left_out += 1

    def _tell_left_out(self) -> None:
        if self._left_out:
            log.warning("%s: %d lines of output left out", self.name, self._left_out)
            self._left_out = 0

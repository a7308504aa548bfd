"""The log file of a server without a terminal: all its output, and never more than a disk bears.

Invariants: a full file becomes FILE.1, FILE.1 becomes FILE.2, and so on; ``KEPT`` old ones stay.
Only the server that the file belongs to turns it over (it holds the pid file of its port, or is
launchd's one service); a process that has the file open goes on writing to the one it has. Output
is never without a place: the new file is there before the old one goes, and if it cannot be made,
the old one is used on.
"""

import logging
import os
import sys
from pathlib import Path

MAX_BYTES = 10 * 1024**2
KEPT = 3

_STDOUT, _STDERR = 1, 2


class LogFile(logging.Handler):
    """As a handler it writes nothing: after each record it looks whether the file is full."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def receive_output(self) -> None:
        """Send stdout and stderr of this process to the file; OSError when it cannot be used."""
        self._switch_to(open_log(self._path))
        self.turn_over_if_full()

    def emit(self, record: logging.LogRecord) -> None:
        self.turn_over_if_full()

    def turn_over_if_full(self) -> None:
        try:
            if os.fstat(_STDERR).st_size >= MAX_BYTES:
                self._turn_over()
        except OSError:
            return  # A full or lost disk costs the log, never the server.

    def _turn_over(self) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        descriptor = open_log(fresh)
        for number in range(KEPT, 1, -1):
            if (older := self._numbered(number - 1)).exists():
                older.replace(self._numbered(number))
        self._path.replace(self._numbered(1))
        fresh.replace(self._path)
        self._switch_to(descriptor)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _switch_to(self, descriptor: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for number in (_STDOUT, _STDERR):
            os.dup2(descriptor, number)
        os.close(descriptor)


def open_log(path: Path) -> int:
    """The file for appending; OSError when that is not a plain file."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o600)

"""The lines of a log that is being written, across its rotation (``x.log``, ``x.log.1``, …).

Invariants: of a log that is followed no line is lost, told twice, or told in halves; a log that
was moved away is read to its end before its successor is begun.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO


def last_lines(log: BinaryIO, path: Path, wanted: int) -> list[bytes]:
    """The last whole lines, with those of rotated files where the log is short.

    What is read next begins with the line that is still being written.
    """
    lines = deque(log, maxlen=wanted + 1)
    if lines and not lines[-1].endswith(b"\n"):
        log.seek(-len(lines.pop()), os.SEEK_CUR)
    elif len(lines) > wanted:
        lines.popleft()
    for number in count(1):
        missing = wanted - len(lines)
        older = path.with_name(f"{path.name}.{number}")
        if not missing or not older.is_file():
            break
        with older.open("rb") as file:
            lines.extendleft(reversed(deque(file, maxlen=missing)))
    return list(lines)


def following_lines(log: BinaryIO, path: Path, wait: Callable[[], None]) -> Iterator[bytes]:
    """What is written from here on; ``wait`` is called whenever there is nothing."""
    while True:
        with log:
            yield from _until_moved(log, path, wait)
            wait()
            # Its writer may have had a last line for it.
            yield from log.read().splitlines()
        log = path.open("rb")


def _until_moved(log: BinaryIO, path: Path, wait: Callable[[], None]) -> Iterator[bytes]:
    rest = b""
    while True:
        *lines, rest = (rest + log.read()).split(b"\n")
        yield from lines
        if _is_moved(log, path):
            break
        if os.fstat(log.fileno()).st_size < log.tell():
            log.seek(0)  # it was emptied where it is
            rest = b""
        elif not lines:
            wait()
    log.seek(-len(rest), os.SEEK_CUR)


def _is_moved(log: BinaryIO, path: Path) -> bool:
    """Whether another file is at its place by now."""
    try:
        return not os.path.samestat(os.fstat(log.fileno()), path.stat())
    except FileNotFoundError:
        return False  # the successor is still to come

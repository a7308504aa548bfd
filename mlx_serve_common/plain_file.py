"""Reading a small file that may be anything: whole, at once, or not at all.

Invariants: a FIFO is not waited for, a device is not read, and no more than the limit is held.
"""

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What says nothing about a file: this process, or the machine, has no room to look at it now."""


class PlainFile(NamedTuple):
    content: bytes
    status: os.stat_result
    """Of the very file that was read."""


class NotPlain(OSError):
    """There is something of that name, and it is no file or too large."""


def read_plain(path: Path, most_bytes: int) -> PlainFile:
    """OSError if it cannot be read; its ``strerror`` says why."""
    # Opening a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotPlain(0, "not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise NotPlain(0, f"larger than {most_bytes // 1024} KiB")
    return PlainFile(content, status)

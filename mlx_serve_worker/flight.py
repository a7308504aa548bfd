"""One process does a piece of work, the others watch it: across processes, by a lock on a file.

Invariants: whoever holds the lock leads, and the kernel takes it from a leader that dies; the
locked file itself holds the leader's latest event, so that nothing else is left behind; a follower
that wanted the same ends as the leader did, unless the leader was merely stopped.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Self

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.undecodable import UNDECODABLE

Report = Callable[[JobEvent], None]

_LOCKS = ".locks"
_RECORD_BYTES = 4096
_STEP_S = 0.1
# These say something about the leader's process, and not about the work.
_OF_THE_LEADER = {ErrorCode.CANCELLED, ErrorCode.INTERNAL_ERROR}


class _Record(msgspec.Struct):
    terms: str
    event: JobEvent


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Record).decode


def key_of(work: str) -> str:
    return hashlib.sha256(work.encode()).hexdigest()[:32]


class Flight:
    """A context manager: entering it waits until this process leads, or another is done."""

    def __init__(self, models_dir: Path, work: str, terms: str, report: Report) -> None:
        """``terms`` are what this process wants that others at the same work may not want."""
        self.key = key_of(work)
        self._path = models_dir / _LOCKS / self.key
        self._terms = terms
        self._report = report
        self._held = contextlib.ExitStack()
        self.descriptor = -1
        """A child that has it keeps the lock when we die."""
        self.success: JobEvent | None = None
        """Of the leader that we followed: there is nothing left to do."""

    def __enter__(self) -> Self:
        self._path.parent.mkdir(exist_ok=True)
        with contextlib.ExitStack() as opened:
            self.descriptor = _open(self._path)
            opened.callback(os.close, self.descriptor)
            if not _try_lock(self.descriptor):
                self._follow()
            if self.success is None:
                os.ftruncate(self.descriptor, 0)
            self._held = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def tell(self, event: JobEvent) -> None:
        """Report, and let the followers report the same."""
        self.record(event)
        self._report(event)

    def record(self, event: JobEvent) -> None:
        encoded = _encode(_Record(self._terms, event)).ljust(_RECORD_BYTES)
        if len(encoded) == _RECORD_BYTES:
            with contextlib.suppress(OSError):  # a full disk shows in the work itself
                os.pwrite(self.descriptor, encoded, 0)

    def _follow(self) -> None:
        self._report(JobEvent(status="resolving", detail="another process is at it; following"))
        seen = None
        while not _try_lock(self.descriptor):
            record = self._recorded()
            if record is not None and record.event != seen and record.event.error is None:
                seen = record.event
                self._report(seen)
            sleep(_STEP_S)
        last = self._recorded()
        if last is None or last.terms != self._terms:
            return
        if last.event.status == "success":
            self.success = last.event
        elif last.event.error is not None and last.event.code not in _OF_THE_LEADER:
            raise ServeError(last.event.code or ErrorCode.INTERNAL_ERROR, last.event.error)

    def _recorded(self) -> _Record | None:
        try:
            return _decode(os.pread(self.descriptor, _RECORD_BYTES, 0))
        except UNDECODABLE:
            return None  # none yet, or just being written


@contextlib.contextmanager
def abandoned(models_dir: Path, key: str) -> Iterator[bool]:
    """Whether nobody is at the work of that key; nobody begins before the block ends."""
    path = models_dir / _LOCKS / key
    path.parent.mkdir(exist_ok=True)
    descriptor = _open(path)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

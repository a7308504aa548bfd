"""The pid file of a server: proof that one runs on a port, and how to reach exactly that one.

Invariants: the lock is the truth and the text only describes its holder. The lock ends with the
process, never before: who sees it free knows that the server is gone. The file is removed only by
its holder, so that an exiting server cannot remove its successor's. Nothing found under the name
is followed, waited for, or trusted.
"""

import errno
import fcntl
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mlx_serve_common.paths import pid_file
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_gateway.process_identity import ProcessIdentity

_log = logging.getLogger(__name__)

_NAME = re.compile(r"mlx-serve-([1-9]\d{0,4})\.pid", re.ASCII)
_MAX_BYTES = 4096
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Opening a link, a folder or a socket (Linux, macOS) fails so; a FIFO opens and is told by stat.
_NOT_A_FILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP}


class PidRecord(ProcessIdentity, frozen=True, kw_only=True):
    """What a running server says about itself; ``log`` is None when a terminal has its output."""

    port: int
    host: str
    instance: str
    log: str | None = None
    key: str | None = None
    """Opens this one server to the commands of its own account, and is told to nobody."""


class PidFileHeld(Exception):
    """Another process holds the lock: a server starts, runs or drains on this port."""


class PidFile:
    """The locked pid file of this process, which never unlocks it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, home: Path, port: int) -> "PidFile":
        """Take the lock or raise ``PidFileHeld``; OSError when the name cannot be used."""
        path = pid_file(home, port)
        while True:
            descriptor = _open_or_create(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                usable = _is_plain(os.fstat(descriptor))
                if usable and _is_at(descriptor, path):
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise PidFileHeld(str(path)) from None
            except BaseException:
                os.close(descriptor)
                raise
            # Else the former holder removed this file between our open and our lock.
            os.close(descriptor)
            if not usable:
                _move_aside(path)

    def publish(self, record: PidRecord) -> None:
        """Say who holds the lock; until then readers see a server that is starting."""
        os.fchmod(self._descriptor, 0o600)
        text = msgspec.json.encode(record) + b"\n"
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def remove(self) -> None:
        """Free the name for a successor; the kernel frees the lock when this process ends."""
        if _is_at(self._descriptor, self._path):
            self._path.unlink()


class Watch:
    """A look at a pid file that stays on the same file, whoever replaces it."""

    def __init__(self, descriptor: int, port: int) -> None:
        self._descriptor = descriptor
        self._port = port

    def is_held(self) -> bool:
        try:
            # Shared, so that two watchers do not take each other for a server.
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # A file system without locks, on which no server can have started.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return False

    def record(self) -> PidRecord | None:
        """Who holds it; None while that one starts, or when the text is not by a live process."""
        try:
            record = msgspec.json.decode(os.pread(self._descriptor, _MAX_BYTES, 0), type=PidRecord)
        except (OSError, *UNDECODABLE):
            return None
        # A file left by a killed server names that one until its successor has published.
        return record if record.port == self._port and record.is_current() else None


@contextmanager
def watch(home: Path, port: int) -> Iterator[Watch | None]:
    """Open the pid file; None when there is none. Never blocks, never raises for what it finds."""
    try:
        descriptor = os.open(pid_file(home, port), os.O_RDONLY | _FLAGS)
    except OSError:
        yield None
        return
    try:
        yield Watch(descriptor, port) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


class Sighting(msgspec.Struct, frozen=True):
    """What a pid file showed at one moment."""

    held: bool
    record: PidRecord | None = None


def look(home: Path, port: int) -> Sighting:
    with watch(home, port) as seen:
        if seen is None or not seen.is_held():
            return Sighting(held=False)
        return Sighting(held=True, record=seen.record())


def ports(home: Path) -> list[int]:
    """The ports that have a pid file, live or stale."""
    try:
        names = os.listdir(home)
    except OSError:
        return []
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(port for match in found if match and (port := int(match[1])) <= 65535)


def _open_or_create(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        except OSError as error:
            if error.errno not in _NOT_A_FILE:
                raise
        else:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
        _move_aside(path)


def _is_plain(found: os.stat_result) -> bool:
    # A second link would let the record overwrite a file that has another name too.
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _move_aside(path: Path) -> None:
    """Free the name, destroying nothing."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Among several starts only one may find the intruder; the others must not move the pid
        # file that the first has made in the meantime.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if _is_plain(path.lstat()):
            return
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.aside")
        path.rename(aside)
        _log.warning("%s was not a pid file of ours; moved to %s", path, aside.name)
    except FileNotFoundError:
        return
    finally:
        os.close(folder)

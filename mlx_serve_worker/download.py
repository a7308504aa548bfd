"""One file from the hub, continued where an earlier attempt, of any process, has ended.

Invariants: a part file holds the beginning of the content that its name is the digest of; only
what has that digest ever gets the file's own name; nothing that has its own name is written to.
"""

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.downloads import Folder
from mlx_serve_worker.listing import Listing, RemoteFile
from mlx_serve_worker.meter import Meter
from mlx_serve_worker.patience import Attempts, Patience, Trouble, WrongAnswer

if TYPE_CHECKING:
    from mlx_serve_worker.hub import Hub


_CHUNK_BYTES = 1024**2
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Part:
    """The bytes of a file so far, on disk and in its hash. A context manager."""

    def __init__(self, path: Path, file: RemoteFile) -> None:
        self.path = path
        self._file = file
        self._stream = os.fdopen(os.open(path, _OPEN, 0o600), "r+b", buffering=0)
        self._hash = _hash_of(file)
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    @property
    def is_complete(self) -> bool:
        return self.size == self._file.size

    @property
    def is_right(self) -> bool:
        return self.is_complete and self._hash.hexdigest() == self._file.digest.hex

    def recall(self, meter: Meter) -> None:
        """Take up what an earlier attempt has left."""
        if os.fstat(self._stream.fileno()).st_size > self._file.size:
            self._stream.truncate(0)
        while chunk := self._stream.read(_CHUNK_BYTES):
            meter.found(len(chunk))
            self._count(chunk)

    def append(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self._file.size:
            raise WrongAnswer
        view = memoryview(chunk)
        while view:
            view = view[self._stream.write(view) :]
        self._count(chunk)

    def restart(self, meter: Meter) -> None:
        self._stream.seek(0)
        self._stream.truncate(0)
        self._hash = _hash_of(self._file)
        meter.found(-self.size)
        self.size = 0

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)


class Source(NamedTuple):
    hub: "Hub"
    listing: Listing
    patience: Patience


def fetch(source: Source, file: RemoteFile, folder: Folder, meter: Meter) -> None:
    """Have ``file`` in the folder, with the content that the hub lists."""
    target = folder.files / file.name
    if _is_whole(target, file, meter):
        return
    target.parent.mkdir(exist_ok=True)
    with Part(folder.part(file), file) as part:
        part.recall(meter)
        cached = source.hub.cache.blob(source.listing.repo, file) if part.size == 0 else None
        if cached is not None:
            _copy(cached, part, meter)
        if part.is_complete and not part.is_right:
            part.restart(meter)
        _download(source, file, part, meter)
        part.path.replace(target)


def _is_whole(path: Path, file: RemoteFile, meter: Meter) -> bool:
    """Whether an earlier process had the file, and it is still what it was."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISREG(found.st_mode) and found.st_size == file.size:
        with Part(path, file) as earlier:
            earlier.recall(meter)
            if earlier.is_right:
                return True
            meter.found(-earlier.size)
    path.unlink()
    return False


def _copy(source: Path, part: Part, meter: Meter) -> None:
    with contextlib.suppress(WrongAnswer), source.open("rb", buffering=0) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            part.append(chunk)
            meter.found(len(chunk))
    if not part.is_right:
        part.restart(meter)


def _download(source: Source, file: RemoteFile, part: Part, meter: Meter) -> None:
    attempts = Attempts(source.patience)
    was_wrong = False
    while not part.is_right:
        try:
            _receive(source, file, part, attempts, meter)
        except Trouble as trouble:
            attempts.failed(trouble)
        except WrongAnswer:
            part.restart(meter)
            if was_wrong:
                raise ServeError(
                    ErrorCode.UPSTREAM_ERROR,
                    f"what the hub sends as {file.name!r} is not what it lists; a login page of"
                    " this network may be in the way",
                ) from None
            was_wrong = True


def _receive(
    source: Source, file: RemoteFile, part: Part, attempts: Attempts, meter: Meter
) -> None:
    with source.hub.content(source.listing, file, part.size) as content:
        if content.offset != part.size:
            part.restart(meter)
        for chunk in content.chunks:
            part.append(chunk)
            meter.received(len(chunk))
            attempts.progressed(len(chunk))
    if not part.is_complete:
        raise Trouble(f"the connection was broken off in the middle of {file.name!r}")
    if not part.is_right:
        raise WrongAnswer


def _hash_of(file: RemoteFile) -> "hashlib._Hash":
    if file.digest.algorithm == "sha256":
        return hashlib.sha256()
    # Git's own hash of a file; what it protects against here is the network, not forgery.
    header = b"blob %d\0" % file.size
    return hashlib.sha1(header, usedforsecurity=False)

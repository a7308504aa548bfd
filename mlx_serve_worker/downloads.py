"""The folders of unfinished downloads: one for each repository at one commit, kept for a while.

Invariants: whoever works in a folder holds the lock of its key; what nobody has touched for
``KEPT_S`` is removed by the next pull, and nothing that somebody works in.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import time_ns
from typing import NamedTuple

from mlx_serve_worker.flight import abandoned
from mlx_serve_worker.listing import RemoteFile

KEPT_S = 7 * 86_400

_DOWNLOADS = ".downloads"


class Folder(NamedTuple):
    path: Path

    @property
    def models_dir(self) -> Path:
        return self.path.parent.parent

    @property
    def files(self) -> Path:
        """Those that are whole, by their own names."""
        return self.path / "files"

    @property
    def parts(self) -> Path:
        return self.path / "parts"

    def part(self, file: RemoteFile) -> Path:
        return self.parts / f"{file.digest.hex}.part"

    def make(self) -> None:
        for path in (self.files, self.parts):
            path.mkdir(parents=True, exist_ok=True)

    def held_bytes(self, file: RemoteFile) -> int:
        """How much of a file is here, be it right or not."""
        return min(file.size, max(_size(self.files / file.name), _size(self.part(file))))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_if_empty(self) -> None:
        if not any(_size(path) for path in _files(self.path)):
            self.remove()


def folder(models_dir: Path, key: str) -> Folder:
    return Folder(models_dir / _DOWNLOADS / key)


def sweep(models_dir: Path) -> None:
    """Remove what nobody has come back to."""
    with contextlib.suppress(FileNotFoundError):
        for path in (models_dir / _DOWNLOADS).iterdir():
            if _age_s(path) > KEPT_S:
                with abandoned(models_dir, path.name) as is_abandoned:
                    if is_abandoned and _age_s(path) > KEPT_S:
                        Folder(path).remove()


def _age_s(path: Path) -> float:
    times = [found.lstat().st_mtime_ns for found in (path, *_files(path)) if found.exists()]
    return (time_ns() - max(times, default=0)) / 1e9


def _files(path: Path) -> Iterator[Path]:
    return (found for found in path.rglob("*") if found.is_file())


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0

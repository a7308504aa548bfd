"""The folders of unfinished downloads: one for each repository at one commit, kept for a while.

Invariants: whoever works in a folder holds the lock of its key; what nobody has touched for
``KEPT_S``, or needs any more, is removed by the next pull, and nothing that somebody works in.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from time import time_ns
from typing import NamedTuple

from mlx_serve_worker.flight import abandoned
from mlx_serve_worker.listing import RemoteFile

KEPT_S = 7 * 86_400

_DOWNLOADS = ".downloads"
_NOTHING = os.stat_result((0,) * 10)


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

    @property
    def meant_for(self) -> str:
        """The name of the model that it is to become."""
        try:
            return self._name.read_text()
        except (OSError, UnicodeDecodeError):
            return ""

    @property
    def _name(self) -> Path:
        return self.path / "name"

    def part(self, file: RemoteFile) -> Path:
        return self.parts / f"{file.digest.hex}.part"

    def make(self, meant_for: str) -> None:
        for path in (self.files, self.parts):
            path.mkdir(parents=True, exist_ok=True)
        self._name.write_text(meant_for)

    def held_bytes(self, file: RemoteFile) -> int:
        """How much of a file is here, be it right or not."""
        return min(file.size, max(_size(self.files / file.name), _size(self.part(file))))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_if_empty(self) -> None:
        here = (path for of in (self.files, self.parts) for path in of.rglob("*"))
        if not any(path.is_file() and _size(path) for path in here):
            self.remove()


def folder(models_dir: Path, key: str) -> Folder:
    return Folder(models_dir / _DOWNLOADS / key)


def sweep(models_dir: Path, of_use: Callable[[Folder], bool]) -> None:
    """Remove what nobody has come back to, or will."""
    for path in (models_dir / _DOWNLOADS).glob("*"):
        unfinished = Folder(path)
        if _age_s(path) > KEPT_S or not of_use(unfinished):
            with abandoned(models_dir, path.name) as is_abandoned:
                if is_abandoned and (_age_s(path) > KEPT_S or not of_use(unfinished)):
                    unfinished.remove()


def _age_s(path: Path) -> float:
    """Since anything in it was written to."""
    return time_ns() / 1e9 - max(_found(each).st_mtime for each in (path, *path.rglob("*")))


def _size(path: Path) -> int:
    return _found(path).st_size


def _found(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _NOTHING  # or gone since it was listed: somebody is at work

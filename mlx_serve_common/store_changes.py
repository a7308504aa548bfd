"""Removing and copying an installed model: quick, and whole or not at all.

Invariants: a model that is removed is gone by one rename, whatever happens to its files later; a
copy shares the files of its source, which nobody ever writes to, and costs no room; only files
that the manifest lists are copied, and no link is followed.
"""

import datetime
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlx_serve_common.durable import sync
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import (
    MANIFEST_FILE,
    Manifest,
    ManifestError,
    encode_manifest,
    read_manifest,
)
from mlx_serve_common.names import check_name
from mlx_serve_common.store import Store

OnWait = Callable[[], None]


def remove_model(models_dir: Path, name: str, on_wait: OnWait | None = None) -> None:
    """Remove the folder ``name``, which may be damaged; ``model_not_found`` if there is none.

    ``on_wait`` is called if another process works on that name; it may raise instead of waiting.
    """
    name = check_name(name)
    if not _is_there(models_dir / name):
        raise _not_found(name)
    store = Store(models_dir)
    with store.locked(name, on_wait):
        folder = models_dir / name
        if not _is_there(folder):
            raise _not_found(name)
        if folder.is_symlink():
            folder.unlink()
            sync(models_dir)
            store.write_index()
            return
        withdrawn = store.withdraw(name)
    shutil.rmtree(withdrawn, ignore_errors=True)


def copy_model(models_dir: Path, source: str, name: str, on_wait: OnWait | None = None) -> Manifest:
    """Install the model ``source`` once more as ``name``; its manifest."""
    source, name = check_name(source), check_name(name)
    if not _is_there(models_dir / source):
        raise _not_found(source)
    store = Store(models_dir)
    with store.locked(name, on_wait):
        if taken := store.names_like(name):
            raise ServeError(
                ErrorCode.INVALID_REQUEST,
                f"there is a model named {taken[0]!r} already; choose another name",
                param="destination",
            )
        original = _manifest(models_dir / source)
        with store.staging() as staged:
            for file, record in original.files.items():
                link_file(models_dir / source, staged, file, record.size)
            # Links made before and after a replacement would be those of two models.
            if _manifest(models_dir / source) != original:
                raise _unfit(source, "was replaced meanwhile; copy it again")
            copy = msgspec.structs.replace(original, name=name, created_at=_now())
            (staged / MANIFEST_FILE).write_bytes(encode_manifest(copy))
            store.publish(staged, name, replace=False)
    return copy


def _is_there(folder: Path) -> bool:
    try:
        mode = folder.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def _manifest(folder: Path) -> Manifest:
    try:
        return read_manifest(folder)
    except ManifestError as error:
        raise _unfit(folder.name, f"cannot be used: {error}") from None


def link_file(source: Path, target: Path, file: str, size: int) -> None:
    """Let the folder ``target`` have ``file``, of that size, of the model in ``source``."""
    within = Path(file)
    if within.is_absolute() or ".." in within.parts:
        raise _unfit(source.name, f"names a file outside of its folder: {file[:80]!r}")
    parents = [source / parent for parent in within.parents]
    try:
        found = (source / within).lstat()
        if any(parent.is_symlink() for parent in parents) or not stat.S_ISREG(found.st_mode):
            raise _unfit(source.name, f"is damaged: {file[:80]!r} is not a regular file")
        if found.st_size != size:
            raise _unfit(source.name, f"is damaged: {file[:80]!r} was changed")
        (target / within).parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(source / within, target / within)
    except FileNotFoundError:
        raise _unfit(source.name, f"is damaged: {file[:80]!r} is missing") from None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        # Not every volume has links, and each file only so many.
        shutil.copyfile(source, target, follow_symlinks=False)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _not_found(name: str) -> ServeError:
    message = f"model {name!r} not found; `mlx-serve list` shows what is installed"
    return ServeError(ErrorCode.MODEL_NOT_FOUND, message, param="model")


def _unfit(name: str, reason: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"the model {name!r} {reason}")

"""The models folder: where models are prepared, and the one step that makes them installed.

Invariants: a folder without a leading dot is a whole, synced model, whenever the process is
killed; one name is worked on by one process at a time; what a dead process left is swept away by
the next one, and by a server that starts; nothing outside the models folder is ever removed, and no
link is followed.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from mlx_serve_common.durable import exchange, sync, sync_tree
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.measured_budgets import forget_budget
from mlx_serve_common.models import (
    MANIFEST_FILE,
    InstalledModel,
    Manifest,
    ManifestError,
    encode_manifest,
    read_manifest,
)
from mlx_serve_common.names import INDEX_FILE, clash_key
from mlx_serve_common.store_index import index_of

log = logging.getLogger(__name__)

_STAGING = ".staging"
_LOCKS = ".locks"


class Store:
    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        models_dir.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self, name: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold ``name``, and whatever could be mistaken for it, against other processes."""
        locks = self.models_dir / _LOCKS
        locks.mkdir(exist_ok=True)
        key = hashlib.sha256(clash_key(name).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        with _open_locked(locks / key, os.O_RDWR | os.O_CREAT, on_wait):
            yield

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A new folder on the same volume, removed at the end unless it was published."""
        parent = self.models_dir / _STAGING
        parent.mkdir(exist_ok=True)
        folder = parent / secrets.token_hex(8)
        with contextlib.ExitStack() as held:
            # Under this lock nobody sees a folder that is made and not yet locked by its maker.
            with _open_locked(parent / ".lock", os.O_RDWR | os.O_CREAT):
                _sweep(parent)
                folder.mkdir()
                held.enter_context(_open_locked(folder, os.O_RDONLY))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def refuse_other_spelling(self, name: str) -> None:
        for found in self.names_like(name):
            if found != name:
                raise name_taken(found, "differs from yours only in spelling")

    def names_like(self, name: str) -> list[str]:
        """The installed names that are ``name``, or could be mistaken for it."""
        key = clash_key(name)
        return [entry.name for entry in self.models_dir.iterdir() if clash_key(entry.name) == key]

    def installed(self, name: str) -> InstalledModel | None:
        folder = self.models_dir / name
        if not os.path.lexists(folder):
            return None
        try:
            return InstalledModel(read_manifest(folder), folder)
        except ManifestError as error:
            raise name_taken(name, f"cannot be used: {error}") from None

    def publish(self, staged: Path, name: str, *, replace: bool) -> None:
        """Make ``staged`` the model ``name``. The caller holds the lock of that name."""
        sync_tree(staged)
        target = self.models_dir / name
        if not os.path.lexists(target):
            staged.rename(target)
        elif not replace:
            raise name_taken(name)
        elif not exchange(staged, target):
            self._replace_in_two_steps(staged, target)
        sync(self.models_dir)
        self.write_index()

    def withdraw(self, name: str) -> Path:
        """Make the model ``name`` uninstalled; what is left of it is the caller's to delete.

        The caller holds the lock of that name. Nothing has to be created for it, so that it works
        on a full disk.
        """
        parent = self.models_dir / _STAGING
        parent.mkdir(exist_ok=True)
        withdrawn = parent / f"{secrets.token_hex(8)}.old"
        (self.models_dir / name).rename(withdrawn)
        sync(self.models_dir)
        forget_budget(self.models_dir, name)
        self.write_index()
        return withdrawn

    def write_index(self) -> None:
        """Let ``metadata.json`` say what is installed now; that it cannot be written is no harm."""
        locks = self.models_dir / _LOCKS
        path = self.models_dir / INDEX_FILE
        try:
            locks.mkdir(exist_ok=True)
            with _open_locked(locks / "index", os.O_RDWR | os.O_CREAT):
                content = index_of(self.models_dir)
                if not path.is_file() or path.read_bytes() != content:
                    (locks / "index.new").write_bytes(content)
                    (locks / "index.new").replace(path)
        except OSError as error:
            log.warning("%s could not be written: %s", INDEX_FILE, error)

    def rewrite_manifest(self, name: str, manifest: Manifest) -> None:
        """Put another manifest into the model ``name``. The caller holds the lock of that name."""
        folder = self.models_dir / name
        with self.staging() as staged:
            written = staged / MANIFEST_FILE
            written.write_bytes(encode_manifest(manifest))
            sync(written)
            written.rename(folder / MANIFEST_FILE)
        sync(folder)
        # Servers look for news only when this time has changed.
        os.utime(self.models_dir)

    def _replace_in_two_steps(self, staged: Path, target: Path) -> None:
        aside = staged.with_name(f"{staged.name}.old")
        target.rename(aside)
        try:
            staged.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def sweep_staging(models_dir: Path) -> None:
    """Remove what killed processes have left; those that are at work keep theirs."""
    parent = models_dir / _STAGING
    if parent.is_dir():
        with _open_locked(parent / ".lock", os.O_RDWR | os.O_CREAT):
            _sweep(parent)


def abandoned_staging(models_dir: Path) -> list[Path]:
    """What ``sweep_staging`` would remove now."""
    entries = sorted((models_dir / _STAGING).glob("*"))
    return [entry for entry in entries if _is_abandoned(entry)]


def name_taken(name: str, reason: str = "") -> ServeError:
    which = f", which {reason}" if reason else ""
    return ServeError(
        ErrorCode.INVALID_REQUEST,
        f"there is a model named {name!r} already{which}; choose another name with --name",
        param="name",
    )


@contextlib.contextmanager
def _open_locked(
    path: Path, flags: int, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if on_wait is not None and not _try_lock(descriptor):
            on_wait()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_abandoned(entry: Path) -> bool:
    if entry.is_symlink() or not entry.is_dir():
        return False
    try:
        descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Remove the folders whose maker is gone: their locks went with it."""
    for entry in parent.iterdir():
        if entry.is_symlink() or not entry.is_dir():
            continue
        try:
            descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # somebody is just deleting a model that was withdrawn
        try:
            if _try_lock(descriptor):
                shutil.rmtree(entry, ignore_errors=True)
        finally:
            os.close(descriptor)

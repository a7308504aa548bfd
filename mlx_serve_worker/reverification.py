"""Verifying a model that is installed, and writing the outcome into its manifest.

Invariants: what is stored is about the very files that are installed when it is stored; a model
that cannot even be loaded is told as one that did not pass.
"""

import datetime
import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import Manifest, ManifestError, Verified, read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker import device
from mlx_serve_worker.verification import verify

Report = Callable[[JobEvent], None]


def reverify(folder: Path, report: Report, custom_models: Path | None = None) -> Verified:
    before = _manifest(folder)
    verified = _outcome(folder, before, report, custom_models)
    store = Store(folder.parent)

    def on_wait() -> None:
        report(JobEvent(status="verifying", detail="waiting for another process"))

    with store.locked(folder.name, on_wait):
        now = _manifest(folder)
        if now.files != before.files:
            message = f"{folder.name} was replaced meanwhile; verify it again"
            raise ServeError(ErrorCode.INVALID_REQUEST, message)
        store.rewrite_manifest(folder.name, msgspec.structs.replace(now, verified=verified))
    return verified


def _manifest(folder: Path) -> Manifest:
    try:
        return read_manifest(folder)
    except ManifestError as error:
        message = f"{folder.name} is no installed model: {error}"
        raise ServeError(ErrorCode.MODEL_NOT_FOUND, message) from None


def _outcome(
    folder: Path, manifest: Manifest, report: Report, custom_models: Path | None
) -> Verified:
    try:
        _check_files(folder, manifest, report)
        report(JobEvent(status="verifying", detail="computing"))
        return verify(folder, custom_models)
    except ServeError as error:
        return Verified(
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            device=device.current().name,
            passed=False,
            problems=[error.message],
        )


def _check_files(folder: Path, manifest: Manifest, report: Report) -> None:
    done = 0
    for name, record in manifest.files.items():
        report(JobEvent(status="verifying", detail=name, total=manifest.size_bytes, completed=done))
        try:
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            raise _changed(name, "is missing") from None
        if digest != record.sha256:
            raise _changed(name, "is not the file that was installed")
        done += record.size


def _changed(name: str, how: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"{name} {how}; install the model again")

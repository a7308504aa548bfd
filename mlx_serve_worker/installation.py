"""A folder of model files into the store: copied, verified, tried, perhaps converted, published.

Invariants: only files that the manifest needs are copied, and what was copied is what is checked;
a model that cannot be loaded here, or that fails its trial, is never published; of one that is
converted, only the result is.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from mlx_serve_common.conversion import Conversion
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import (
    MANIFEST_FILE,
    FileRecord,
    InstalledModel,
    Manifest,
    encode_manifest,
)
from mlx_serve_common.names import check_name
from mlx_serve_common.store import Store, name_taken
from mlx_serve_worker import weights
from mlx_serve_worker.converting import convert
from mlx_serve_worker.inspection import Origin, inspect
from mlx_serve_worker.repository import MAX_FILES, MAX_JSON_BYTES, MAX_REPOSITORY_BYTES, unfit
from mlx_serve_worker.tokenizer_file import MAX_TOKENIZER_BYTES, TOKENIZER_FILE
from mlx_serve_worker.verification import try_out

IfInstalled = Literal["refuse", "keep", "replace"]
Report = Callable[[JobEvent], None]

_CHUNK_BYTES = 4 * 1024**2
_PROGRESS_BYTES = 32 * 1024**2
_SPARE_BYTES = 64 * 1024**2


def install(
    source: Path,
    store: Store,
    origin: Origin,
    if_installed: IfInstalled,
    report: Report,
    conversion: Conversion | None = None,
) -> Manifest:
    """The manifest of the model that is installed in the end."""
    name = check_name(origin.name)
    origin = origin._replace(name=name)
    report(JobEvent(status="resolving", detail=name))

    def on_wait() -> None:
        report(JobEvent(status="resolving", detail=f"another process is installing {name}"))

    with store.locked(name, on_wait):
        store.refuse_other_spelling(name)
        if if_installed != "replace" and (installed := store.installed(name)) is not None:
            return _kept(installed, origin, if_installed, conversion)
        original = origin._replace(name=_name_before(origin, conversion))
        # Once before copying, so that an unfit folder costs nothing.
        files = inspect(source, original).files
        with store.staging() as staged:
            if conversion is None:
                manifest = _stage(source, staged, original, files, report)
            else:
                with store.staging() as unconverted:
                    _stage(source, unconverted, original, files, report)
                    manifest = convert(
                        unconverted, staged, name, conversion, origin.custom_models, report
                    )
            report(JobEvent(status="verifying", detail="writing to disk"))
            store.publish(staged, name, replace=if_installed == "replace")
    return manifest


def _kept(
    installed: InstalledModel,
    origin: Origin,
    if_installed: IfInstalled,
    conversion: Conversion | None,
) -> Manifest:
    manifest = installed.manifest
    from_elsewhere = None not in (origin.source, manifest.source) and (
        origin.source != manifest.source
    )
    if from_elsewhere:
        raise name_taken(origin.name, f"comes from {manifest.source}")
    if if_installed == "refuse":
        raise name_taken(origin.name)
    if manifest.conversion != conversion:
        raise name_taken(origin.name, "is converted in another way, or not at all")
    return manifest


def _name_before(origin: Origin, conversion: Conversion | None) -> str:
    """What the model is called as it comes; its name here is that of what becomes of it."""
    if conversion is None or origin.source is None:
        return origin.name
    return origin.source.rpartition("/")[2]


def _stage(
    source: Path, staged: Path, origin: Origin, files: list[str], report: Report
) -> Manifest:
    """Have the model in the folder ``staged``, as it comes, and found to work."""
    take = _share if origin.is_given_away else _copy
    records = take(source, staged, files, report)
    report(JobEvent(status="verifying", detail="loading the model"))
    manifest = _complete(inspect(staged, origin).manifest, records)
    (staged / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    verified = try_out(staged, origin.custom_models)
    manifest = msgspec.structs.replace(manifest, verified=verified)
    (staged / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    return manifest


def _complete(manifest: Manifest, records: dict[str, FileRecord]) -> Manifest:
    return msgspec.structs.replace(
        manifest,
        files=records,
        size_bytes=sum(record.size for record in records.values()),
        weights_bytes=sum(
            record.size for name, record in records.items() if name.endswith(".safetensors")
        ),
    )


def _copy(source: Path, target: Path, names: list[str], report: Report) -> dict[str, FileRecord]:
    total = _total(source, names)
    if shutil.disk_usage(target).free < total + _SPARE_BYTES:
        raise OSError(errno.ENOSPC, f"no room for {total} bytes")
    event = JobEvent(status="copying", total=total)
    return _take(_copy_file, source, target, names, _Progress(event, report))


def _share(source: Path, target: Path, names: list[str], report: Report) -> dict[str, FileRecord]:
    event = JobEvent(status="verifying", total=_total(source, names))
    return _take(_share_file, source, target, names, _Progress(event, report))


def _total(source: Path, names: list[str]) -> int:
    total = sum((source / name).lstat().st_size for name in names)
    if total > MAX_REPOSITORY_BYTES or len(names) > MAX_FILES:
        raise unfit(f"the model is too large: {len(names)} files, {total} bytes")
    return total


class _Progress:
    def __init__(self, event: JobEvent, report: Report) -> None:
        self._event = event
        self._report = report
        self._before = 0

    def begin(self, name: str) -> None:
        self._event = msgspec.structs.replace(self._event, detail=name)

    def __call__(self, of_file: int) -> None:
        self._report(msgspec.structs.replace(self._event, completed=self._before + of_file))

    def end(self, of_file: int) -> None:
        self._before += of_file


def _take(
    take_file: Callable[[Path, Path, int, _Progress], FileRecord],
    source: Path,
    target: Path,
    names: list[str],
    progress: _Progress,
) -> dict[str, FileRecord]:
    records: dict[str, FileRecord] = {}
    for name in names:
        progress.begin(name)
        (target / name).parent.mkdir(exist_ok=True)
        records[name] = take_file(source / name, target / name, _limit(name), progress)
        progress.end(records[name].size)
    return records


def _limit(name: str) -> int:
    if name.endswith(".safetensors"):
        return weights.MAX_FILE_BYTES
    return MAX_TOKENIZER_BYTES if name.endswith(TOKENIZER_FILE) else MAX_JSON_BYTES


def _copy_file(
    source: Path, target: Path, limit: int, on_progress: Callable[[int], None]
) -> FileRecord:
    with target.open("xb", buffering=0) as writer:
        return _read(source, limit, on_progress, writer.write)


def _share_file(
    source: Path, target: Path, limit: int, on_progress: Callable[[int], None]
) -> FileRecord:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        source.rename(target)  # not every volume has links
    return _read(target, limit, on_progress, lambda chunk: None)


def _read(
    path: Path,
    limit: int,
    on_progress: Callable[[int], None],
    on_chunk: Callable[[bytes], object],
) -> FileRecord:
    digest = hashlib.sha256()
    done = reported = 0
    # Not to wait for a pipe, nor follow a link, that took the file's place since it was looked at.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as reader:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise unfit(f"{path.name} is not a regular file")
        while chunk := reader.read(_CHUNK_BYTES):
            done += len(chunk)
            if done > limit:
                raise unfit(f"{path.name} is larger than {limit // 1024**2} MiB")
            digest.update(chunk)
            on_chunk(chunk)
            if done - reported >= _PROGRESS_BYTES:
                on_progress(reported := done)
    on_progress(done)
    return FileRecord(done, digest.hexdigest())

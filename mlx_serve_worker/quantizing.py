"""A second, quantized form of an installed model: made, compared with the original, published.

Invariants: the original is only read; everything but the weights is the original's own (module
folders, prompts, tokenizer, the facts of its manifest), so that nothing is decided anew; what fails
its trial here is never published.
"""

import datetime
import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import (
    MANIFEST_FILE,
    FileRecord,
    Manifest,
    ManifestError,
    ModelKind,
    encode_manifest,
    read_manifest,
)
from mlx_serve_common.names import check_name, quantized_name
from mlx_serve_common.store import Store, name_taken
from mlx_serve_common.store_changes import link_file
from mlx_serve_worker import packing, quality, weights
from mlx_serve_worker.model_folder import read_checked_manifest, read_config
from mlx_serve_worker.quantization import USUAL, Mode, Scheme
from mlx_serve_worker.verification import try_out

Report = Callable[[JobEvent], None]

_CONFIG = "config.json"
_SPARE_BYTES = 64 * 1024**2


class Wish(NamedTuple):
    """What the person who quantizes a model says about it."""

    model: str
    mode: str = "affine"
    bits: int | None = None
    group_size: int | None = None
    name: str | None = None
    custom_models: Path | None = None
    """The folder of their own architectures."""


def scheme(wish: Wish) -> Scheme:
    if wish.mode not in USUAL:
        raise _refused(f"there is no mode {wish.mode[:40]!r}; choose one of {', '.join(USUAL)}")
    mode: Mode = wish.mode
    group_size, bits = USUAL[mode]
    wanted = Scheme(wish.group_size or group_size, wish.bits or bits, mode)
    if mode != "affine" and wanted != Scheme(group_size, bits, mode):
        raise _refused(f"{mode} always has {bits} bits in groups of {group_size}")
    if wanted.bits not in (4, 8):
        raise _refused(f"{wanted.bits} bits are not offered; choose 4 or 8")
    if wanted.group_size not in (32, 64, 128) and mode == "affine":
        raise _refused(f"groups of {wanted.group_size} are not offered; choose 32, 64 or 128")
    return wanted


def quantize_model(store: Store, wish: Wish, report: Report) -> Manifest:
    """The manifest of the model that was made."""
    wanted = scheme(wish)
    source = store.models_dir / check_name(wish.model)
    original = _original(source)
    name = check_name(wish.name or quantized_name(source.name, wanted.bits, wanted.mode))
    report(JobEvent(status="resolving", detail=name))

    def on_wait() -> None:
        report(JobEvent(status="resolving", detail=f"another process is installing {name}"))

    with store.locked(name, on_wait):
        store.refuse_other_spelling(name)
        if store.installed(name) is not None:
            raise name_taken(name)
        before = _answers(source, wish, "the original", report)
        with store.staging() as staged:
            _refuse_full_disk(staged, original, wanted)
            manifest = _Quantizer(source, staged, original, wanted, report).quantize(
                name, wish.custom_models
            )
            (staged / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
            report(JobEvent(status="verifying", detail="loading the quantized model"))
            verified = try_out(staged, wish.custom_models)
            after = _answers(staged, wish, "the quantized model", report)
            measured = quality.compare(original.kind, before, after)
            manifest = msgspec.structs.replace(manifest, verified=verified, quality=measured)
            (staged / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
            if _original(source).files != original.files:
                raise _refused(f"{source.name} was replaced meanwhile; quantize it again")
            report(JobEvent(status="verifying", detail="writing to disk"))
            store.publish(staged, name, replace=False)
    return manifest


def _original(folder: Path) -> Manifest:
    try:
        read_manifest(folder)
    except ManifestError as error:
        message = f"{folder.name} is no installed model: {error}"
        raise ServeError(ErrorCode.MODEL_NOT_FOUND, message) from None
    manifest = read_checked_manifest(folder)
    if manifest.quantization:
        raise _refused(f"{folder.name} is quantized already; quantize its original")
    if manifest.kind is ModelKind.CHAT:
        raise _refused("chat models cannot be quantized yet")
    return manifest


def _answers(folder: Path, wish: Wish, who: str, report: Report) -> quality.Answers:
    shown = -1

    def on_progress(done: int, total: int) -> None:
        nonlocal shown
        if (quarter := 4 * done // total) > shown:
            shown = quarter
            detail = f"asking {who}: {done} of {total} texts"
            report(JobEvent(status="verifying", detail=detail))

    return quality.answers(folder, wish.custom_models, on_progress)


def _refuse_full_disk(staged: Path, original: Manifest, wanted: Scheme) -> None:
    # With scales and biases a value takes half a bit or a bit more; what stays plain, all of it.
    needed = original.weights_bytes * (wanted.bits + 1) // 16 + _SPARE_BYTES
    if shutil.disk_usage(staged).free < needed:
        raise OSError(errno.ENOSPC, f"no room for {needed} bytes")


class _Quantizer:
    def __init__(
        self, source: Path, staged: Path, original: Manifest, wanted: Scheme, report: Report
    ) -> None:
        self._source = source
        self._staged = staged
        self._original = original
        self._scheme = wanted
        self._report = report

    def quantize(self, name: str, custom_models: Path | None) -> Manifest:
        """Fill the staged folder; its manifest, but for what only running the model shows."""
        folder = self._original.transformer_folder
        target = self._staged / folder
        target.mkdir(exist_ok=True)
        config = read_config(self._source / folder)
        of = packing.layers(self._original, config, custom_models)
        made, counted = self._pack(weights.weight_files(self._source / folder), target, of)
        if len(made) > 1:
            (target / weights.INDEX_FILE).write_bytes(packing.index(made))
            made.append(target / weights.INDEX_FILE)
        (target / _CONFIG).write_bytes(packing.config_of(config, self._scheme))
        made.append(target / _CONFIG)
        records = {path.relative_to(self._staged).as_posix(): _record(path) for path in made}
        return self._manifest(name, counted, self._kept() | records)

    def _pack(
        self, files: list[Path], target: Path, of: packing.Layers
    ) -> tuple[list[Path], packing.Packed]:
        sizes = {path: path.stat().st_size for path in files}
        done = 0

        def on_file(path: Path) -> None:
            nonlocal done
            total = sum(sizes.values())
            self._report(
                JobEvent(status="quantizing", detail=path.name, total=total, completed=done)
            )
            done += sizes[path]

        made, counted = packing.pack(files, target, of, self._scheme, on_file)
        if not counted.quantized:
            raise _refused(
                f"no layer of {self._source.name} divides into groups of"
                f" {self._scheme.group_size}; try a smaller group size"
            )
        return made, counted

    def _kept(self) -> dict[str, FileRecord]:
        """The other files, which the two models share."""
        folder = Path(self._original.transformer_folder)
        kept = {
            file: record
            for file, record in self._original.files.items()
            if Path(file).parent != folder or not _is_made_anew(Path(file).name)
        }
        for file, record in kept.items():
            link_file(self._source, self._staged, file, record.size)
        return kept

    def _manifest(
        self, name: str, counted: packing.Packed, files: dict[str, FileRecord]
    ) -> Manifest:
        original = self._original
        facts = msgspec.structs.asdict(self._scheme)
        how = f"{counted.quantized} layers quantized here, {counted.plain} left as they are"
        size = sum(record.size for record in files.values())
        return msgspec.structs.replace(
            original,
            name=name,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            quantization=facts,
            quantized_from=original.name,
            plain_layers=counted.plain,
            original_size=original.size_bytes,
            quantized_size=size,
            size_bytes=size,
            weights_bytes=sum(
                record.size for file, record in files.items() if file.endswith(".safetensors")
            ),
            files=dict(sorted(files.items())),
            decided={**original.decided, "quantization": how},
            verified=None,
        )


def _is_made_anew(name: str) -> bool:
    return name in (_CONFIG, weights.INDEX_FILE) or name.endswith(".safetensors")


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path.stat().st_size, digest)


def _refused(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, message)

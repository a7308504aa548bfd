"""A model's folder to that of its converted form: made, tried out, and compared with the original.

Invariants: the original is only read; everything but the weights is the original's own (module
folders, prompts, tokenizer, the facts of its manifest), so that nothing is decided anew; what
cannot be loaded, or fails its trial, is an error.
"""

import datetime
import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlx_serve_common.conversion import ITEM_BYTES, Conversion
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import (
    MANIFEST_FILE,
    ChatFacts,
    FileRecord,
    Manifest,
    encode_manifest,
)
from mlx_serve_common.store_changes import link_file
from mlx_serve_worker import packing, quality, weights
from mlx_serve_worker.model_folder import read_checked_manifest, read_config
from mlx_serve_worker.verification import try_out

Report = Callable[[JobEvent], None]

_CONFIG = "config.json"
_SPARE_BYTES = 64 * 1024**2


def convert(
    source: Path,
    staged: Path,
    name: str,
    wanted: Conversion,
    custom_models: Path | None,
    report: Report,
) -> Manifest:
    """Fill the folder ``staged`` with the model ``name``, made of the one in ``source``."""
    original = read_checked_manifest(source)
    _refuse_unfit(original)
    _refuse_full_disk(staged, original, wanted)
    before = _answers(source, custom_models, "the original", report)
    manifest = _Converter(source, staged, original, wanted, report).convert(name, custom_models)
    (staged / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    report(JobEvent(status="verifying", detail="loading the converted model"))
    verified = try_out(staged, custom_models)
    after = _answers(staged, custom_models, "the converted model", report)
    measured = quality.compare(original.kind, before, after)
    manifest = msgspec.structs.replace(manifest, verified=verified, quality=measured)
    (staged / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    return manifest


def refuse_quantized(config: dict[str, object], name: str) -> None:
    """What is quantized already would only lose by being converted."""
    if config.get("quantization"):
        raise _quantized_already(name)


def _refuse_unfit(original: Manifest) -> None:
    if original.quantization:
        raise _quantized_already(original.name)


def _answers(folder: Path, custom_models: Path | None, who: str, report: Report) -> quality.Answers:
    shown = -1

    def on_progress(done: int, total: int) -> None:
        nonlocal shown
        if (quarter := 4 * done // total) > shown:
            shown = quarter
            detail = f"asking {who}: {done} of {total} texts"
            report(JobEvent(status="verifying", detail=detail))

    return quality.answers(folder, custom_models, on_progress)


def _refuse_full_disk(staged: Path, original: Manifest, wanted: Conversion) -> None:
    needed = wanted.made_bytes(original.weights_bytes) + _SPARE_BYTES
    if shutil.disk_usage(staged).free < needed:
        raise OSError(errno.ENOSPC, f"no room for {needed} bytes")


class _Converter:
    def __init__(
        self, source: Path, staged: Path, original: Manifest, wanted: Conversion, report: Report
    ) -> None:
        self._source = source
        self._staged = staged
        self._original = original
        self._wanted = wanted
        self._report = report

    def convert(self, name: str, custom_models: Path | None) -> Manifest:
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
        (target / _CONFIG).write_bytes(packing.config_of(config, self._wanted, of, counted))
        made.append(target / _CONFIG)
        records = {path.relative_to(self._staged).as_posix(): _record(path) for path in made}
        return self._manifest(name, counted, self._kept() | records)

    def _pack(
        self, files: list[Path], target: Path, of: packing.Layers
    ) -> tuple[list[Path], packing.Packed]:
        scheme = self._wanted.scheme
        sizes = {path: path.stat().st_size for path in files}
        event = JobEvent(
            status="converting" if scheme is None else "quantizing", total=sum(sizes.values())
        )
        done = 0

        def on_file(path: Path) -> None:
            nonlocal done
            self._report(msgspec.structs.replace(event, detail=path.name, completed=done))
            done += sizes[path]

        made, counted = packing.pack(files, target, of, self._wanted, on_file)
        if scheme is not None and not counted.quantized:
            raise _refused(
                f"no layer of {self._original.name} divides into groups of {scheme.group_size};"
                " try a smaller group size (`mlx-serve quantize --group-size`)"
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
        original, wanted = self._original, self._wanted
        scheme = wanted.scheme
        size = sum(record.size for record in files.values())
        before = original.conversion or Conversion()
        return msgspec.structs.replace(
            original,
            name=name,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            dtype=wanted.dtype or original.dtype,
            chat=_chat_facts(original, wanted),
            quantization=scheme and packing.facts_of(scheme, counted),
            conversion=Conversion(wanted.scheme, wanted.dtype or before.dtype),
            converted_from=original.name,
            plain_layers=counted.plain,
            original_size=original.size_bytes,
            quantized_size=size,
            size_bytes=size,
            weights_bytes=sum(
                record.size for file, record in files.items() if file.endswith(".safetensors")
            ),
            files=dict(sorted(files.items())),
            decided=original.decided | self._decided(counted),
            verified=None,
        )

    def _decided(self, counted: packing.Packed) -> dict[str, str]:
        decided = {}
        if self._wanted.scheme is not None:
            decided["quantization"] = (
                f"{counted.quantized} layers quantized here, {counted.plain} left as they are"
            )
        if self._wanted.dtype is not None:
            decided["dtype"] = f"converted here from {self._original.dtype or 'an unknown type'}"
        return decided


def _chat_facts(original: Manifest, wanted: Conversion) -> ChatFacts | None:
    """What a conversation occupies depends on the type that is computed in."""
    facts = original.chat
    if facts is None or wanted.dtype is None:
        return facts
    before, after = (ITEM_BYTES[dtype or wanted.dtype] for dtype in (original.dtype, wanted.dtype))
    per_token = facts.kv_bytes_per_token
    return msgspec.structs.replace(
        facts,
        kv_bytes_per_token=None if per_token is None else per_token * after // before,
        kv_bytes_fixed=facts.kv_bytes_fixed * after // before,
    )


def _is_made_anew(name: str) -> bool:
    return name in (_CONFIG, weights.INDEX_FILE) or name.endswith(".safetensors")


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path.stat().st_size, digest)


def _quantized_already(name: str) -> ServeError:
    return _refused(f"{name} is quantized already; convert its original, or use it as it is")


def _refused(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, message)

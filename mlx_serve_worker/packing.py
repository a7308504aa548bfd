"""The weight files of a model to those of its quantized form.

Invariants: the files keep their names and all their tensors, also those that we have no use for,
under the names that the repository gave them, so that whoever reads MLX's format finds what it
expects; a layer is quantized whole or stays as it is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Classifier, Manifest, YesOrNo
from mlx_serve_worker import architectures, weights
from mlx_serve_worker.quantization import Scheme

_WEIGHT = ".weight"
# In the order in which mx.quantize gives them.
_PARTS = (_WEIGHT, ".scales", ".biases")


class Layers(NamedTuple):
    """Those of a model that can be quantized, by our names, and how stored names become ours."""

    names: frozenset[str]
    rename: weights.Rename
    sanitize: Callable[[dict[str, mx.array]], dict[str, mx.array]] | None
    """In code of others, which renames by itself: all stored values, as their model has them."""


def layers(manifest: Manifest, config: dict[str, Any], custom_models: Path | None) -> Layers:
    model, rename, sanitize = _model(manifest, config, custom_models)
    names = frozenset(
        name
        for name, layer in model.named_modules()
        if hasattr(layer, "to_quantized") and not _is_classifier(name, manifest)
    )
    return Layers(names, rename, sanitize)


def _model(
    manifest: Manifest, config: dict[str, Any], custom_models: Path | None
) -> tuple[Any, weights.Rename, Any]:
    # Here and below: each kind of model needs its own code only.
    match manifest.head:
        case Classifier(labels):
            from mlx_serve_worker.models.classification import ClassificationModel

            classifier = ClassificationModel(manifest.architecture, config, labels)
            return classifier, classifier.parameter_name, None
        case YesOrNo():
            from mlx_serve_worker.models.judge import JudgeModel

            judge = JudgeModel(config)
            return judge, judge.parameter_name, None
        case None:
            code = architectures.installed(
                manifest.architecture, manifest.implementation, custom_models
            )
            encoder: Any = code.build(config)
            rename = getattr(code, "parameter_name", None)
            if rename is not None:
                return encoder, rename, None
            return encoder.model, lambda name: name, encoder.sanitize


def _is_classifier(name: str, manifest: Manifest) -> bool:
    # A few rows that every score depends on: quantizing them would save nothing.
    return isinstance(manifest.head, Classifier) and name.startswith("head.")


class Packed(NamedTuple):
    quantized: int
    plain: int
    """Layers that could be quantized, if their size did fit."""

    def plus(self, other: "Packed") -> "Packed":
        return Packed(self.quantized + other.quantized, self.plain + other.plain)


def pack(
    files: Sequence[Path], target: Path, of: Layers, scheme: Scheme, on_file: Callable[[Path], None]
) -> tuple[list[Path], Packed]:
    """Write the quantized form of ``files`` into ``target``; what was written, and how much."""
    made: list[Path] = []
    done = Packed(0, 0)
    if of.sanitize is not None:
        # What their code makes of one tensor may depend on another file's.
        on_file(files[0])
        merged = {name: value for path in files for name, value in _stored(path).items()}
        stored = of.sanitize(merged)
        made.append(target / weights.WEIGHTS_FILE)
        return made, _write(made[0], stored, of, scheme)
    for path in files:
        on_file(path)
        made.append(target / path.name)
        done = done.plus(_write(made[-1], _stored(path), of, scheme))
    return made, done


def _stored(path: Path) -> dict[str, mx.array]:
    weights.read_header(path)  # MLX does not check it well enough
    return weights.open_file(path)


def _write(target: Path, stored: Mapping[str, mx.array], of: Layers, scheme: Scheme) -> Packed:
    written: dict[str, mx.array] = {}
    quantized = plain = 0
    for name, value in stored.items():
        layer = (of.rename(name) or "").removesuffix(_WEIGHT)
        if not name.endswith(_WEIGHT) or layer not in of.names:
            written[name] = value
        elif value.shape[-1] % scheme.group_size:
            written[name] = value
            plain += 1
        else:
            written |= _quantized(name, value, scheme)
            quantized += 1
    # A file object, because MLX tells of a full disk only in words when it is given a path.
    with target.open("xb") as file:
        mx.save_safetensors(file, written, metadata={"format": "mlx"})
    return Packed(quantized, plain)


def _quantized(name: str, value: mx.array, scheme: Scheme) -> dict[str, mx.array]:
    try:
        parts = mx.quantize(value, group_size=scheme.group_size, bits=scheme.bits, mode=scheme.mode)
    except ValueError:
        raise ServeError(
            ErrorCode.INVALID_REQUEST,
            f"MLX cannot quantize to {scheme.bits} bits in groups of {scheme.group_size} in the"
            f" mode {scheme.mode}",
        ) from None
    mx.eval(parts)
    layer = name.removesuffix(_WEIGHT)
    return {f"{layer}{part}": values for part, values in zip(_PARTS, parts, strict=False)}


def index(files: Iterable[Path]) -> bytes:
    """What says which file holds which tensor, where a model has several."""
    weight_map = {tensor.name: path.name for path in files for tensor in weights.read_header(path)}
    total = sum(path.stat().st_size for path in files)
    return msgspec.json.encode({"metadata": {"total_size": total}, "weight_map": weight_map})


def config_of(config: Mapping[str, Any], scheme: Scheme) -> bytes:
    """``config.json`` as repositories in MLX's format have it, with the scheme under both keys."""
    facts = msgspec.structs.asdict(scheme)
    stated = {**config, "quantization": facts, "quantization_config": facts}
    return msgspec.json.format(msgspec.json.encode(stated), indent=2)

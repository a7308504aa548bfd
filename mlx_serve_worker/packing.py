"""The weight files of a model to those of its converted form.

Invariants: the files keep their names and all their tensors, also those that we have no use for,
under the names that the repository gave them, so that whoever reads MLX's format finds what it
expects; a layer is quantized whole or stays as it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import msgspec

from mlx_serve_common.conversion import Conversion, Dtype, Scheme
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Classifier, Manifest, YesOrNo
from mlx_serve_worker import architectures, weights

_WEIGHT = ".weight"
# In the order in which mx.quantize gives them.
_PARTS = (_WEIGHT, ".scales", ".biases")
# What a layer leaves open that wants a way of its own, as MLX's layers have it.
_OWN = {"group_size": 64, "bits": 4, "mode": "affine"}
# Of one file that is written anew; nobody else's holds more.
_FILE_BYTES = 5 * 1024**3
# What transformers has called it, lately and before.
_DTYPE_KEYS = ("dtype", "torch_dtype")


class Layers(NamedTuple):
    """Those of a model that can be quantized, by our names, and how stored names become ours."""

    names: frozenset[str]
    rename: weights.Rename
    sanitize: Callable[[dict[str, mx.array]], dict[str, mx.array]] | None
    """In code of others, which renames by itself: all stored values, as their model has them."""
    own: Mapping[str, Scheme]
    """Those that the model's code wants in a way of their own, however the others are."""


def layers(manifest: Manifest, config: dict[str, Any], custom_models: Path | None) -> Layers:
    model, rename, sanitize = _model(manifest, config, custom_models)
    # mlx-lm's way for a model to say which of its layers suffer.
    choose = getattr(model, "quant_predicate", None)
    chosen = {
        name: True if choose is None else choose(name, layer)
        for name, layer in model.named_modules()
        if hasattr(layer, "to_quantized") and not _is_classifier(name, manifest)
    }
    own = {name: _OWN | choice for name, choice in chosen.items() if isinstance(choice, dict)}
    return Layers(
        names=frozenset(name for name, choice in chosen.items() if choice),
        rename=rename,
        sanitize=sanitize,
        own={name: msgspec.convert(choice, Scheme) for name, choice in own.items()},
    )


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
        case None if manifest.chat is not None:
            from mlx_serve_worker import chat_architectures
            from mlx_serve_worker.models.language_model import LanguageModel

            module = chat_architectures.installed(config, manifest.implementation, custom_models)
            chat = LanguageModel(module, config)
            return chat.model, lambda name: name, chat.sanitize
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
    own: frozenset[str] = frozenset()
    """Those of the quantized that are so in a way of their own."""

    def plus(self, other: "Packed") -> "Packed":
        return Packed(
            self.quantized + other.quantized, self.plain + other.plain, self.own | other.own
        )


def pack(
    files: Sequence[Path],
    target: Path,
    of: Layers,
    wanted: Conversion,
    on_file: Callable[[Path], None],
) -> tuple[list[Path], Packed]:
    """Write the converted form of ``files`` into ``target``; what was written, and how much."""
    made: list[Path] = []
    done = Packed(0, 0)
    if of.sanitize is not None:
        # What their code makes of one tensor may depend on another file's.
        on_file(files[0])
        merged = {name: value for path in files for name, value in _stored(path).items()}
        return _write_several(target, of.sanitize(merged), of, wanted)
    for path in files:
        on_file(path)
        made.append(target / path.name)
        converted = _Converted(_stored(path), of, wanted)
        _save(made[-1], dict(converted))
        done = done.plus(converted.counted)
    return made, done


def _write_several(
    target: Path, stored: dict[str, mx.array], of: Layers, wanted: Conversion
) -> tuple[list[Path], Packed]:
    """One file, or more where it would be too large for the memory to hold at once."""
    made: list[Path] = []
    converted = _Converted(stored, of, wanted)
    written: dict[str, mx.array] = {}
    for name, value in converted:
        written[name] = value
        if sum(each.nbytes for each in written.values()) >= _FILE_BYTES:
            made.append(target / f"model-{len(made) + 1:05}.safetensors")
            _save(made[-1], written)
            written = {}
    if written:
        last = f"model-{len(made) + 1:05}.safetensors" if made else weights.WEIGHTS_FILE
        made.append(target / last)
        _save(made[-1], written)
    return made, converted.counted


def _stored(path: Path) -> dict[str, mx.array]:
    weights.read_header(path)  # MLX does not check it well enough
    return weights.open_file(path)


class _Converted:
    """What becomes of stored values, which are forgotten one by one; counts while it is read."""

    def __init__(self, stored: dict[str, mx.array], of: Layers, wanted: Conversion) -> None:
        self._stored = stored
        self._of = of
        self._wanted = wanted
        self.counted = Packed(0, 0)

    def __iter__(self) -> Iterator[tuple[str, mx.array]]:
        for name in list(self._stored):
            value = _of_type(self._stored.pop(name), self._wanted.dtype)
            layer = (self._of.rename(name) or "").removesuffix(_WEIGHT)
            scheme = self._wanted.scheme
            if scheme is None or not name.endswith(_WEIGHT) or layer not in self._of.names:
                yield name, value
                continue
            own = self._of.own.get(layer)
            scheme = own or scheme
            if value.shape[-1] % scheme.group_size:
                self.counted = self.counted.plus(Packed(0, 1))
                yield name, value
                continue
            self.counted = self.counted.plus(
                Packed(1, 0, frozenset([layer]) if own else frozenset())
            )
            yield from _quantized(name, value, scheme).items()


def _save(target: Path, written: Mapping[str, mx.array]) -> None:
    # A file object, because MLX tells of a full disk only in words when it is given a path.
    with target.open("xb") as file:
        mx.save_safetensors(file, dict(written), metadata={"format": "mlx"})


def _of_type(value: mx.array, dtype: Dtype | None) -> mx.array:
    if dtype is None or not mx.issubdtype(value.dtype, mx.floating):
        return value
    return value.astype(getattr(mx, dtype))


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


def facts_of(scheme: Scheme, counted: Packed) -> dict[str, Any]:
    """For the manifest."""
    facts = msgspec.structs.asdict(scheme)
    return {**facts, "mixed": True} if counted.own else facts


def config_of(config: Mapping[str, Any], wanted: Conversion, of: Layers, counted: Packed) -> bytes:
    """``config.json`` as repositories in MLX's format have it, with the scheme under both keys."""
    stated = dict(config)
    if wanted.scheme is not None:
        facts = msgspec.structs.asdict(wanted.scheme)
        facts |= {name: msgspec.structs.asdict(of.own[name]) for name in sorted(counted.own)}
        stated |= {"quantization": facts, "quantization_config": facts}
    if wanted.dtype is not None:
        stated |= {key: wanted.dtype for key in _DTYPE_KEYS if key in config}
    return msgspec.json.format(msgspec.json.encode(stated), indent=2)

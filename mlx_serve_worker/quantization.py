"""Weights that MLX has quantized: which layers, and how, before their values are read.

Invariants: a layer is quantized exactly if its files hold its scales, in the way ``config.json``
states; anything stored otherwise then fails the check of names, shapes and types. Only MLX's own
format is read: the key ``quantization``, whatever a ``quantization_config`` beside it says.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.nn as nn
import msgspec

from mlx_serve_common.conversion import USUAL, Mode, Scheme
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker import weights, widening

_SCALES = ".scales"
_KEYS = ("group_size", "bits", "mode")


class _Quantization(msgspec.Struct, frozen=True):
    general: Scheme
    of_layers: dict[str, Scheme]
    """By the names of ``config.json``."""
    plain_layers: set[str]


def quantize(
    model: nn.Module, config: dict[str, Any], files: Iterable[Path], rename: weights.Rename
) -> dict[str, Any] | None:
    """Give ``model`` the quantized layers of its files; what the manifest tells of them."""
    if not _read(config):
        return None
    stored = {rename(tensor.name) for path in files for tensor in weights.read_header(path)}
    return quantize_stored(model, config, {name for name in stored if name}, rename)


def quantize_stored(
    model: nn.Module,
    config: dict[str, Any],
    stored: Iterable[str],
    rename: weights.Rename,
    *,
    is_widened: bool = True,
) -> dict[str, Any] | None:
    """The same, where the names of the stored values are known already.

    ``is_widened`` where what computes is to get float32 if it is slow at anything else.
    """
    stated = _read(config)
    if stated is None:
        return None
    layers = [name.removesuffix(_SCALES) for name in stored if name.endswith(_SCALES)]
    schemes = _schemes(stated, layers, rename)
    if not schemes:
        return None

    def scheme_of(path: str, layer: nn.Module) -> dict[str, Any] | bool:
        return msgspec.structs.asdict(schemes[path]) if path in schemes else False

    try:
        nn.quantize(model, class_predicate=scheme_of)
    except (TypeError, ValueError):  # not every layer can be quantized in every mode
        raise _unfit("quantizes a layer in a way that MLX does not support") from None
    widening.speed_up(model)
    if is_widened:
        widening.widen_embeddings(model)
    facts = msgspec.structs.asdict(stated.general)
    is_mixed = any(scheme != stated.general for scheme in schemes.values())
    return {**facts, "mixed": True} if is_mixed else facts


def refuse_foreign(config: dict[str, Any]) -> None:
    """Weights that others than MLX have quantized cannot be read."""
    _read(config)


def _schemes(
    stated: _Quantization, layers: Iterable[str], rename: weights.Rename
) -> dict[str, Scheme]:
    """How each layer is quantized, by our names."""
    plain = {_our_layer(name, rename) for name in stated.plain_layers}
    schemes = {name: stated.general for name in layers if name not in plain}
    for name, scheme in stated.of_layers.items():
        ours = _our_layer(name, rename)
        if ours in schemes:
            schemes[ours] = scheme
    return schemes


def _our_layer(name: str, rename: weights.Rename) -> str | None:
    ours = rename(f"{name}.weight")
    return None if ours is None else ours.removesuffix(".weight")


def _read(config: dict[str, Any]) -> _Quantization | None:
    stated = config.get("quantization")
    if not stated:
        if foreign := config.get("quantization_config"):
            method = foreign.get("quant_method") if isinstance(foreign, dict) else foreign
            raise _unfit(
                f"has weights quantized by {str(method)[:40]!r}, which cannot be read; take the"
                " repository with plain weights, or one in MLX format"
            )
        return None
    if config.get("quantize_activations"):
        raise _unfit("quantizes activations, which is not supported")
    if not isinstance(stated, dict):
        raise _unfit("has a quantization that cannot be read")
    return _Quantization(
        _scheme({key: stated[key] for key in _KEYS if key in stated}),
        {name: _scheme(value) for name, value in stated.items() if isinstance(value, dict)},
        {name for name, value in stated.items() if value is False},
    )


def _scheme(stated: dict[str, Any]) -> Scheme:
    try:
        mode = msgspec.convert(stated.get("mode", "affine"), Mode)
        group_size, bits = USUAL[mode]
        usual = {"group_size": group_size, "bits": bits, "mode": mode}
        return msgspec.convert({**usual, **stated}, Scheme)
    except msgspec.ValidationError as error:
        raise _unfit(f"has a quantization that cannot be read: {error}") from None


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"config.json {message}")

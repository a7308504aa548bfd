"""Safetensors files to the parameters of a library's model, by the library's own renaming.

Invariants: what the model needs for token vectors is there, in shape and type; a parameter of
another part that the files lack is not a number, so that nothing which depends on it passes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from mlx_serve_worker import weights

_TYPES = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U32": mx.uint32,
    "U8": mx.uint8,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


class Sanitizing(Protocol):
    """Owns a model of a library."""

    def parameters(self) -> Any: ...

    def update(self, parameters: Any) -> Any: ...

    def sanitize(self, stored: dict[str, mx.array]) -> dict[str, mx.array]: ...

    def is_needed(self, name: str) -> bool: ...


def stored_names(model: Sanitizing, files: Iterable[Path]) -> list[str]:
    return list(model.sanitize(_placeholders(files)))


def locate(model: Sanitizing, files: Iterable[Path]) -> weights.Located:
    """Find every parameter by headers alone."""
    expected = dict(tree_flatten(model.parameters()))
    found = model.sanitize(_placeholders(files))
    tensors: dict[str, weights.Tensor] = {}
    for name, value in found.items():
        if name in expected:
            tensors[name] = weights.Tensor(Path(), name, _NAMES.get(value.dtype, ""), value.shape)
            weights.check_fit(tensors[name], expected[name])
    missing = [name for name in expected if name not in tensors and model.is_needed(name)]
    weights.refuse_missing(missing, len(expected))
    unknown = [name for name in found if name not in expected]
    for name in unknown:
        weights.refuse_part_of_quantized(name)
    return weights.Located(tensors, unknown)


def fill(model: Sanitizing, files: Iterable[Path], *, keep_half: bool) -> None:
    expected = dict(tree_flatten(model.parameters()))
    stored = {name: value for path in files for name, value in weights.open_file(path).items()}
    found = model.sanitize(stored)
    values = [
        (name, found[name] if name in found else mx.full(parameter.shape, mx.nan))
        for name, parameter in expected.items()
    ]
    if not keep_half:
        values = [(name, weights.widened(value)) for name, value in values]
    model.update(tree_unflatten(values))
    weights.read([value for name, value in values if name in found])


def _placeholders(files: Iterable[Path]) -> dict[str, mx.array]:
    """Zeros that are never computed, with the shapes and types of the stored values."""
    return {
        tensor.name: mx.zeros(tensor.shape, _TYPES[tensor.dtype])
        for path in files
        for tensor in weights.read_header(path)
        if tensor.dtype in _TYPES
    }

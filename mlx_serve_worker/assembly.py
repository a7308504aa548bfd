"""An encoder and the files that hold its weights, brought together.

Invariants: everything that headers tell is checked before a value is read; the same way is gone at
install time and in a worker, whoever wrote the encoder.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import mlx.nn as nn

from mlx_serve_worker import device, weights
from mlx_serve_worker.architectures import Architecture, Encoder
from mlx_serve_worker.quantization import quantize, quantize_stored


class Assembled(NamedTuple):
    encoder: Encoder
    located: weights.Located
    quantization: dict[str, Any] | None
    module: nn.Module
    """All of its layers."""
    fill: Callable[..., None]
    """Read the values; takes ``keep_half``."""


def assemble(code: Architecture, config: dict[str, Any], files: Sequence[Path]) -> Assembled:
    encoder = code.build(config)
    rename = getattr(code, "parameter_name", None)
    if rename is None:
        return _by_sanitizing(encoder, config, files)
    module = cast(nn.Module, encoder)
    quantization = quantize(module, config, files, rename)
    located = weights.locate(encoder, files, rename)

    def fill(*, keep_half: bool) -> None:
        weights.load(encoder, files, rename, keep_half=keep_half)

    return Assembled(encoder, located, quantization, module, fill)


def fill_module(
    model: nn.Module, config: dict[str, Any], files: Sequence[Path], rename: weights.Rename
) -> None:
    """The same for a model that is more than an encoder: layers as stored, then their values."""
    quantize(model, config, files, rename)
    weights.load(model, files, rename, keep_half=device.current().computes_half)


def _by_sanitizing(encoder: Any, config: dict[str, Any], files: Sequence[Path]) -> Assembled:
    # Here, because only the code of others names its parameters in this way.
    from mlx_serve_worker import library_weights

    stored = library_weights.stored_names(encoder, files)
    quantization = quantize_stored(encoder.model, config, stored, lambda name: name)
    located = library_weights.locate(encoder, files)

    def fill(*, keep_half: bool) -> None:
        library_weights.fill(encoder, files, keep_half=keep_half)

    return Assembled(encoder, located, quantization, encoder.model, fill)

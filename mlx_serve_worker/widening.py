"""Weights that are stored in less than float32, on a CPU, which is tens of times slower at them.

MLX multiplies there with what is quantized one number at a time. Where the memory is set aside,
such weights become float32 when the model is loaded; else for each product that gains by it.
Invariants: the values stay those that are stored; no result differs by more than rounding; a GPU
keeps everything of MLX.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_common.models import Manifest
from mlx_serve_common.precision import loaded_bytes, widened_bytes
from mlx_serve_worker import device

_MANY_ROWS = 8
"""From so many on, to unpack a matrix takes less than to multiply with it as it is."""


def values(layer: Any, at: mx.array | None = None) -> mx.array:
    """A layer's matrix as float32, or these rows of it, whether it is quantized or not."""
    stored = [layer.weight, layer.get("scales"), layer.get("biases")]
    weight, scales, biases = [part if part is None or at is None else part[at] for part in stored]
    if isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding):
        weight = mx.dequantize(
            weight,
            scales=scales,
            biases=biases,
            group_size=layer.group_size,
            bits=layer.bits,
            mode=layer.mode,
        )
    result: mx.array = weight.astype(mx.float32)
    return result


def is_affordable(manifest: Manifest) -> bool:
    """Whether there is memory for it now, where nobody has set it aside."""
    import psutil  # a worker does without

    return loaded_bytes(widened_bytes(manifest)) <= psutil.virtual_memory().available


def speed_up(model: nn.Module) -> None:
    """Have the products of many rows computed in float32, where layers are quantized."""
    for layer in _slow(model, nn.QuantizedLinear):
        layer.__class__ = _Packed


def speed_up_half(model: nn.Module) -> None:
    """The same for all products, where layers are in half precision; with their values there."""
    for layer in _slow(model, nn.Linear):
        if layer.weight.dtype != mx.float32:
            layer.__class__ = _Half


def widen_embeddings(model: nn.Module) -> None:
    """Have vectors of tokens come out as float32."""
    for layer in _slow(model, nn.QuantizedEmbedding):
        layer.__class__ = _Embedding


def _slow(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    """Exactly of this kind; none on a device that is fast at them."""
    if device.current().computes_half:
        return []
    return [layer for layer in model.modules() if type(layer) is kind]


def unpack(model: nn.Module) -> None:
    """Have nothing quantized any more; its scales have to be float32 already."""
    if device.current().computes_half:
        return
    for _, parent in model.named_modules():
        for name, layer in parent.items():
            parent[name] = _unpacked(layer)


def _unpacked(layer: Any) -> Any:
    plain: nn.Linear | nn.Embedding
    match layer:
        case list():
            return [_unpacked(each) for each in layer]
        case nn.QuantizedLinear():
            plain = nn.Linear(1, 1, bias="bias" in layer)
            if "bias" in layer:
                plain.bias = layer.bias
        case nn.QuantizedEmbedding():
            plain = nn.Embedding(1, 1)
        case _:
            return layer
    plain.weight = values(layer)
    mx.eval(plain.weight)
    return plain


class _Packed(nn.QuantizedLinear):
    def __call__(self, x: mx.array) -> mx.array:
        if x.size < _MANY_ROWS * x.shape[-1]:
            return super().__call__(x)
        return _product(self, x)


class _Half(nn.Linear):
    def __call__(self, x: mx.array) -> mx.array:
        return _product(self, x)


def _product(layer: Any, x: mx.array) -> mx.array:
    y = x.astype(mx.float32) @ values(layer).T
    if "bias" in layer:
        y = y + layer.bias
    return y.astype(x.dtype)


class _Embedding(nn.QuantizedEmbedding):
    """The formats that scale by powers of two come out as bfloat16."""

    def __call__(self, x: mx.array) -> mx.array:
        return super().__call__(x).astype(mx.float32)

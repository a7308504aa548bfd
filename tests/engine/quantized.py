"""Stored weights quantized as MLX's own converters do it, and back to plain numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

Weights = dict[str, mx.array]


class Scheme(NamedTuple):
    mode: str
    bits: int
    group_size: int

    def facts(self) -> dict[str, Any]:
        return self._asdict()


SCHEMES = {
    "affine8": Scheme("affine", 8, 32),
    "affine4": Scheme("affine", 4, 32),
    "mxfp4": Scheme("mxfp4", 4, 32),
    "mxfp8": Scheme("mxfp8", 8, 32),
    "nvfp4": Scheme("nvfp4", 4, 16),
}

Choice = Callable[[str], Scheme | None]
"""From the name of a layer to how it is quantized."""


def quantize(folder: Path, choice: Choice) -> None:
    """Quantize every matrix that ``choice`` wants and whose width allows it; not config.json."""
    stored = read_weights(folder)
    quantized: Weights = {}
    for name, value in stored.items():
        layer = name.removesuffix(".weight")
        scheme = choice(layer) if layer != name and value.ndim == 2 else None
        if scheme is None or value.shape[-1] % scheme.group_size:
            quantized[name] = value
            continue
        weight, scales, *biases = mx.quantize(value, scheme.group_size, scheme.bits, scheme.mode)
        quantized |= {f"{layer}.weight": weight, f"{layer}.scales": scales}
        if biases:
            quantized[f"{layer}.biases"] = biases[0]
    _save(folder, quantized)


def rename(folder: Path, to: Callable[[str], str]) -> None:
    _save(folder, {to(name): value for name, value in read_weights(folder).items()})


def state(folder: Path, scheme: Scheme, **of_layers: Any) -> None:
    """Write into config.json what mlx-lm writes there."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = config["quantization_config"] = {**scheme.facts(), **of_layers}
    (folder / "config.json").write_text(json.dumps(config))


def restore(folder: Path, choice: Choice) -> None:
    """The numbers that the quantized weights stand for, as a plain model."""
    stored = read_weights(folder)
    plain: Weights = {}
    for name, value in stored.items():
        layer = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        scheme = choice(layer)
        if scheme is not None and f"{layer}.scales" in stored:
            value = mx.dequantize(
                value,
                scales=stored[f"{layer}.scales"],
                biases=stored.get(f"{layer}.biases"),
                group_size=scheme.group_size,
                bits=scheme.bits,
                mode=scheme.mode,
            ).astype(mx.float32)
        plain[name] = value
    _save(folder, plain)
    config = json.loads((folder / "config.json").read_text())
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))


def read_weights(folder: Path) -> Weights:
    loaded = mx.load(str(folder / "model.safetensors"))
    assert isinstance(loaded, dict)
    return loaded


def _save(folder: Path, tensors: Weights) -> None:
    mx.eval(tensors)
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)

"""Rotary position embeddings: what is turned by which angle.

Invariants: angles, sines and cosines are computed in float32 and rounded where the reference rounds
them; they are tables made once for a forward pass and not the fused kernel's own, because that one
takes fast sines on Metal, which are no longer exact at the thousandth position.
"""

import array
import math
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_worker.models.configuration import unfit
from mlx_serve_worker.models.rope import read_rope

_LONGEST = 32768


class Rotation(NamedTuple):
    """Cosine and sine of each place's angles: (places, half the size of a head)."""

    cosines: mx.array
    sines: mx.array


class Rotary:
    """The angles of one kind of layer. Holds no weights: files never have them."""

    def __init__(self, size: int, theta: float, config: dict[str, Any]) -> None:
        """``config`` is the part of ``config.json`` that is about this kind of layer."""
        if size % 2:
            raise unfit(f"heads of {size} dimensions cannot be rotated")
        rope = read_rope({"rope_theta": theta, **config})
        scaling = rope.scaling or {}
        self._frequencies = _scaled(_frequencies(size, rope.theta), size, rope.theta, scaling)
        self._factor = _attention_factor(scaling)

    def __call__(self, length: int) -> Rotation:
        angles = mx.arange(length, dtype=mx.float32)[:, None] * mx.array(self._frequencies)
        return Rotation(mx.cos(angles) * self._factor, mx.sin(angles) * self._factor)


def rotate(x: mx.array, rotation: Rotation) -> mx.array:
    """(texts, heads, places, size), the first half of a head paired with its second."""
    cosines, sines = rotation
    first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
    turned = [first * cosines - second * sines, second * cosines + first * sines]
    return mx.concatenate(turned, axis=-1).astype(x.dtype)


def longest_input(stated: int, *configs: dict[str, Any]) -> int:
    """How many places can be told apart, where ``stated`` is what ``config.json`` says.

    The reference computes longer inputs than those too if a setting asks for it, except that
    ``dynamic`` angles would then depend on what else is in the batch.
    """
    parameters = [config.get("rope_scaling") or config.get("rope_parameters") for config in configs]
    kinds = {(each.get("rope_type") or each.get("type")) for each in parameters if each}
    return stated if "dynamic" in kinds else max(stated, _LONGEST)


def _frequencies(size: int, theta: float) -> list[float]:
    powers = [_float32(theta ** _float32(pair / size)) for pair in range(0, size, 2)]
    return [_float32(1 / power) for power in powers]


def _scaled(
    frequencies: list[float], size: int, theta: float, scaling: dict[str, Any]
) -> list[float]:
    kind, factor = scaling.get("rope_type"), scaling.get("factor", 1.0)
    if kind == "linear":
        return [frequency / factor for frequency in frequencies]
    if kind == "llama3":
        return [_llama3(frequency, scaling) for frequency in frequencies]
    if kind == "yarn":
        first, last = (
            _yarn_pair(scaling[beta], size, theta, scaling) for beta in ("beta_fast", "beta_slow")
        )
        low, high = max(math.floor(first), 0), min(math.ceil(last), size - 1)
        return [
            frequency * (1 + _ramp(pair, low, high) * (1 / factor - 1))
            for pair, frequency in enumerate(frequencies)
        ]
    return frequencies


def _llama3(frequency: float, scaling: dict[str, Any]) -> float:
    """Short waves stay, long ones are stretched, and there is a slope between the two."""
    turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = min(max((turns - low) / (high - low), 0.0), 1.0)
    return float(kept * frequency + (1 - kept) * frequency / scaling["factor"])


def _yarn_pair(turns: float, size: int, theta: float, scaling: dict[str, Any]) -> float:
    """The pair of dimensions that turns so often within the original context."""
    context = scaling["original_max_position_embeddings"]
    return size * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))


def _ramp(pair: int, low: float, high: float) -> float:
    return min(max((pair - low) / ((high - low) or 0.001), 0.0), 1.0)


def _attention_factor(scaling: dict[str, Any]) -> float:
    if scaling.get("rope_type") != "yarn" or scaling["factor"] <= 1:
        return 1.0
    return float(0.1 * scaling["mscale"] * math.log(scaling["factor"]) + 1)


def _float32(value: float) -> float:
    return array.array("f", [value])[0]

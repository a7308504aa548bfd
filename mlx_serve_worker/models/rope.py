"""Rotary position embeddings as ``config.json`` sets them, in the old form and in the new one.

Invariants: the values are those that transformers 5 takes from the same file; a form that our code
would compute otherwise is refused, and a value that the file lacks is named in ``decided_by``.
"""

import math
from typing import Annotated, Any

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError

_DEFAULT_THETA = 10_000.0

_Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class Rope(msgspec.Struct, frozen=True):
    theta: float
    scaling: dict[str, float | str] | None
    """As mlx-lm takes it; None for none."""
    decided_by: str


class _Parameters(msgspec.Struct, frozen=True):
    """``rope_parameters`` since transformers 5; ``rope_scaling`` before, without the theta."""

    rope_theta: _Positive | None = None
    rope_type: str | None = None
    type: str | None = None
    factor: _Positive | None = None
    original_max_position_embeddings: _Positive | None = None
    low_freq_factor: _Positive | None = None
    high_freq_factor: _Positive | None = None
    attention_factor: _Positive | None = None
    beta_fast: _Positive | None = None
    beta_slow: _Positive | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    partial_rotary_factor: float | None = None


class _Config(msgspec.Struct, frozen=True):
    max_position_embeddings: _Positive
    rope_theta: _Positive | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    original_max_position_embeddings: _Positive | None = None
    partial_rotary_factor: float | None = None


def read_rope(config: dict[str, Any]) -> Rope:
    try:
        read = msgspec.convert(config, _Config)
        # In this order in the reference too, if a file has both.
        source = "rope_scaling" if read.rope_scaling else "rope_parameters"
        stated = read.rope_scaling or read.rope_parameters or {}
        parameters = msgspec.convert(stated, _Parameters)
    except msgspec.ValidationError as error:
        raise _unfit(f"{error}") from None
    if any(isinstance(value, dict) for value in stated.values()):
        raise _unfit(f"{source} differ between layers, which is not supported")
    for share in (parameters.partial_rotary_factor, read.partial_rotary_factor):
        if share not in (None, 1):
            raise _unfit(f"a partial_rotary_factor of {share} is not supported")
    theta = parameters.rope_theta or read.rope_theta
    decided_by = f"no rope_theta: {_DEFAULT_THETA:.0f}, as the reference takes it"
    if theta is not None:
        decided_by = f"config.json: {source if parameters.rope_theta else 'rope_theta'}"
    return Rope(theta or _DEFAULT_THETA, _scaling(read, parameters), decided_by)


def _scaling(config: _Config, parameters: _Parameters) -> dict[str, float | str] | None:
    kind = parameters.rope_type or parameters.type or "default"
    original = (
        config.original_max_position_embeddings
        or parameters.original_max_position_embeddings
        or config.max_position_embeddings
    )
    match kind:
        # "dynamic" changes nothing up to max_position_embeddings, and more is never computed.
        case "default" | "dynamic":
            return None
        case "linear":
            return {"rope_type": kind, "factor": _needed(parameters, "factor")}
        case "llama3":
            return {
                "rope_type": kind,
                "factor": _needed(parameters, "factor"),
                "low_freq_factor": _needed(parameters, "low_freq_factor"),
                "high_freq_factor": _needed(parameters, "high_freq_factor"),
                "original_max_position_embeddings": original,
            }
        case "yarn":
            if not parameters.truncate:
                raise _unfit("rope of type 'yarn' without truncate is not supported")
            factor = parameters.factor or config.max_position_embeddings / original
            return {
                "rope_type": kind,
                "factor": factor,
                "original_max_position_embeddings": original,
                "beta_fast": parameters.beta_fast or 32.0,
                "beta_slow": parameters.beta_slow or 1.0,
                "mscale": _yarn_mscale(parameters, factor),
                "mscale_all_dim": 0.0,
            }
        case _:
            raise _unfit(f"rope of type {kind[:40]!r} is not supported")


def _yarn_mscale(parameters: _Parameters, factor: float) -> float:
    """The ``mscale`` from which mlx-lm computes the reference's attention factor."""
    if factor <= 1:
        if parameters.attention_factor not in (None, 1):
            raise _unfit("an attention_factor without a factor above 1 is not supported")
        return 1.0
    wanted = parameters.attention_factor
    if wanted is None:
        if not (parameters.mscale and parameters.mscale_all_dim):
            return 1.0
        wanted = _growth(factor, parameters.mscale) / _growth(factor, parameters.mscale_all_dim)
    return (wanted - 1) / (_growth(factor, 1.0) - 1)


def _growth(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1


def _needed(parameters: _Parameters, key: str) -> float:
    value = getattr(parameters, key)
    if value is None:
        raise _unfit(f"rope of type {parameters.rope_type or parameters.type!r} lacks {key}")
    return float(value)


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"config.json: {message}")

"""Activation functions by the names that ``config.json`` and Dense layers use.

Invariants: no name means something else than in the reference; an unknown name is refused.
"""

import functools
import math
from collections.abc import Callable

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker import device
from mlx_serve_worker.models.polynomial import polynomial
from mlx_serve_worker.models.power_of_two import GREATEST_POWER, power_of_two

Activation = Callable[[mx.array], mx.array]

# For x >= 0, P(x) ** -16 is the part of the normal distribution beyond x, a minimax fit to 3e-7 / x
# and to 7e-7 where x is small. A CPU takes ten times as long for its erf. GELU errs by 6e-7 at most
# for |x| <= 8 with it, by 5e-7 with erf in float32.
_BEYOND = (
    1.0442738688345181,
    0.05207293782970273,
    0.02208768914085498,
    0.0034037208986608188,
    5.4761253528767634e-05,
    4.567754742420827e-05,
    6.321075852672388e-06,
)


def _gelu_by_polynomials(x: mx.array) -> mx.array:
    wide = x.astype(mx.float32)
    size = mx.abs(wide)
    power = polynomial(size, _BEYOND)
    for _ in range(4):
        power = mx.square(power)
    return (mx.maximum(wide, 0) - size / power).astype(x.dtype)


def _gelu_by_erf(x: mx.array) -> mx.array:
    return x * (1 + mx.erf(x * math.sqrt(0.5))) * 0.5


@functools.cache
def _gelu_kernel() -> Activation:
    if device.current().fuses:
        return mx.compile(_gelu_by_erf, shapeless=True)
    return _gelu_by_polynomials


def gelu(x: mx.array) -> mx.array:
    return _gelu_kernel()(x)


def gelu_tanh(x: mx.array) -> mx.array:
    return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def quick_gelu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(1.702 * x)


def relu(x: mx.array) -> mx.array:
    return mx.maximum(x, 0)


_FEW = 4096
"""For fewer numbers, one ``exp`` after the other takes less than the twenty operations do."""


def _silu_by_polynomials(x: mx.array) -> mx.array:
    wide = x.astype(mx.float32)
    power = power_of_two(mx.minimum(wide * -math.log2(math.e), GREATEST_POWER))
    return (wide / (1 + power)).astype(x.dtype)


def silu(x: mx.array) -> mx.array:
    if device.current().fuses or x.size < _FEW:
        return x * mx.sigmoid(x)
    return _silu_by_polynomials(x)


def linear(x: mx.array) -> mx.array:
    return x


_BY_NAME: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "linear": linear,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "sigmoid": mx.sigmoid,
    "silu": silu,
    "swish": silu,
    "tanh": mx.tanh,
}

_BY_TORCH_CLASS = {
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.linear.Identity": "linear",
}


def activation(name: str) -> Activation:
    """The function of that name in ``hidden_act``."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ServeError(
            ErrorCode.INVALID_MODEL, f"the activation {name!r} is not supported"
        ) from None


def torch_activation(path: str) -> str:
    """Our name for the torch class that a Dense layer's ``config.json`` gives."""
    try:
        return _BY_TORCH_CLASS[path]
    except KeyError:
        raise ServeError(
            ErrorCode.INVALID_MODEL, f"the activation {path!r} of a Dense layer is not supported"
        ) from None

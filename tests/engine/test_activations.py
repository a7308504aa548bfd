"""Activation functions against their definitions."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.models import activations

pytestmark = pytest.mark.engine

X = np.concatenate([np.linspace(-40, 40, 20001), [-5.4, 5.4, 0.0, 1e-30, 1e30]]).astype(np.float32)


def exact_gelu(x: float) -> float:
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def test_gelu_by_polynomials_is_as_exact_as_by_erf() -> None:
    exact = np.array([exact_gelu(float(x)) for x in X])
    allowed = 1.6e-6 * np.minimum(np.abs(X), np.maximum(0.5, np.abs(exact) / 8))
    for kind in (activations._gelu_by_polynomials, activations._gelu_by_erf):
        assert (np.abs(np.array(kind(mx.array(X))) - exact) <= allowed).all(), kind


def test_gelu_in_half_precision_is_finite() -> None:
    x = mx.array(np.linspace(-100, 100, 2001), dtype=mx.float16)
    difference = activations._gelu_by_polynomials(x) - activations._gelu_by_erf(x)
    assert np.abs(np.array(difference)).max() < 0.1


def test_gelu_tells_what_is_not_finite() -> None:
    ours = activations._gelu_by_polynomials(mx.array([math.nan, math.inf, 1.0]))
    assert mx.isfinite(ours).tolist() == [False, False, True]


def test_silu_by_polynomials_is_exact() -> None:
    wide = X.astype(np.float64)
    with np.errstate(over="ignore"):
        exact = wide / (1 + np.exp(-wide))
    ours = np.array(activations._silu_by_polynomials(mx.array(X)))
    np.testing.assert_allclose(ours, exact, rtol=6e-6, atol=1e-12)


@pytest.mark.parametrize("count", [1, 4095, 4096])
def test_silu_is_the_same_for_few_and_for_many(count: int) -> None:
    x = mx.linspace(-9, 9, count)
    assert mx.allclose(activations.silu(x), x * mx.sigmoid(x), rtol=0, atol=2e-6)


def test_silu_tells_what_is_not_a_number() -> None:
    ours = activations._silu_by_polynomials(mx.array([math.nan, math.inf, 1.0]))
    assert mx.isnan(ours).tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "quick_gelu", "relu", "silu", "tanh"])
def test_activation_leaves_large_values_finite(name: str) -> None:
    assert mx.isfinite(activations.activation(name)(mx.array([-1e4, 1e4]))).all().item()


def test_unknown_activations_are_refused() -> None:
    for look_up in (activations.activation, activations.torch_activation):
        with pytest.raises(ServeError) as refused:
            look_up("os.system")
        assert refused.value.code is ErrorCode.INVALID_MODEL

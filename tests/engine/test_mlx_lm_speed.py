"""What mlx-lm's models compute with on a CPU."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_serve_worker import device
from mlx_serve_worker.models import activations, attention
from mlx_serve_worker.models.attention import any_attention
from mlx_serve_worker.models.mlx_lm_speed import speed_up_mlx_lm

pytestmark = pytest.mark.engine

SCALE = 0.25


def test_they_find_our_functions() -> None:
    speed_up_mlx_lm()
    is_ours = not device.current().fuses
    assert (nn.silu is activations.silu) is is_ours
    found: object = mx.fast.scaled_dot_product_attention
    assert (found is any_attention) is is_ours


def heads(count: int, length: int, seed: int) -> mx.array:
    return mx.random.normal((2, count, length, 16), key=mx.random.key(seed))


@pytest.mark.parametrize("mask", [None, "causal", "hides", "hides all", "adds"])
@pytest.mark.parametrize("length", [1, 90])
def test_attention_is_that_of_mlx(mask: str | None, length: int) -> None:
    queries, keys, values = heads(4, length, 1), heads(2, 1100, 2), heads(2, 1100, 3)
    seen = mx.arange(1100) >= mx.array([0, 500])[:, None, None, None]
    given = {
        "hides": seen,
        "hides all": seen & (mx.array([0, 1]) > 0)[:, None, None, None],
        "adds": mx.where(seen, 0.5, -2.0),
    }.get(mask or "", mask)
    ours = any_attention(queries, keys, values, scale=SCALE, mask=given)
    theirs = attention._by_mlx(queries, keys, values, scale=SCALE, mask=given)
    np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=2e-6)


def test_what_we_do_not_know_is_left_to_mlx() -> None:
    queries, keys, values = heads(4, 90, 1), heads(2, 1100, 2), heads(2, 1100, 3)
    sinks = mx.ones(4)
    ours = any_attention(queries, keys, values, scale=SCALE, sinks=sinks)
    theirs = attention._by_mlx(queries, keys, values, scale=SCALE, sinks=sinks)
    assert mx.array_equal(ours, theirs)
    halves = [each.astype(mx.bfloat16) for each in (queries, keys, values)]
    assert any_attention(*halves, scale=SCALE).dtype == mx.bfloat16

"""Pooling by its definitions; equality with the reference is in test_parity."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Normalize, Pooling, PoolingMode
from mlx_serve_worker.pooling import Pipeline, normalized, pool
from tests.engine.models import Vectors

pytestmark = pytest.mark.engine

TOKENS = np.random.RandomState(1).standard_normal((3, 5, 4)).astype(np.float32)
LENGTHS = [5, 3, 1]


def pooled(mode: PoolingMode, tokens: Vectors = TOKENS, skipped: int = 0) -> Vectors:
    return np.array(pool(mx.array(tokens), [mode], LENGTHS, [skipped] * 3))


def by_definition(mode: PoolingMode, tokens: Vectors, first: int) -> Vectors:
    real = tokens[first:]
    positions = np.arange(first + 1, len(tokens) + 1)[:, None]
    match mode:
        case "cls":
            return np.asarray(tokens[first])
        case "lasttoken":
            return np.asarray(tokens[-1])
        case "max":
            return np.asarray(real.max(axis=0))
        case "mean":
            return np.asarray(real.mean(axis=0))
        case "mean_sqrt_len_tokens":
            return np.asarray(real.sum(axis=0) / np.sqrt(len(real)))
        case "weightedmean":
            return np.asarray((real * positions).sum(axis=0) / positions.sum())


MODES: list[PoolingMode] = [
    "cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean",
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_mode_by_its_definition(mode: PoolingMode) -> None:
    expected = [by_definition(mode, TOKENS[row, :end], 0) for row, end in enumerate(LENGTHS)]
    np.testing.assert_allclose(pooled(mode), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_prompt_is_left_out(mode: PoolingMode) -> None:
    got = pooled(mode, skipped=2)
    for row, end in enumerate(LENGTHS[:2]):
        expected = by_definition(mode, TOKENS[row, :end], 2)
        np.testing.assert_allclose(got[row], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("garbage", [1e30, np.inf, np.nan])
def test_padding_may_hold_anything(mode: PoolingMode, garbage: float) -> None:
    tokens = TOKENS.copy()
    for row, end in enumerate(LENGTHS):
        tokens[row, end:] = garbage
    np.testing.assert_array_equal(pooled(mode, tokens), pooled(mode))


def test_text_that_is_all_prompt() -> None:
    # As in the reference: the mean of nothing is zero, its first token is the prompt's.
    assert not pooled("mean", skipped=3)[2].any()
    assert not pooled("lasttoken", skipped=3)[2].any()
    np.testing.assert_array_equal(pooled("cls", skipped=3)[2], TOKENS[2, 0])


def test_zero_vector_stays_zero_when_normalized() -> None:
    assert not np.array(normalized(mx.zeros((1, 4)))).any()


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_half_precision_is_pooled_in_float32(mode: PoolingMode) -> None:
    # 4,000 values of 60 sum up to more than float16 can hold.
    hidden = mx.full((1, 4000, 2), 60.0, dtype=mx.float16)
    result = Pipeline([Pooling([mode])], Path(), 2)(hidden, [4000], [0])
    assert result.dtype == mx.float32
    np.testing.assert_allclose(np.array(result), 60.0)


@pytest.mark.parametrize("steps", [[], [Normalize()], [Pooling(["cls"]), Pooling(["cls"])]])
def test_other_orders_are_refused(steps: list[Pooling | Normalize]) -> None:
    with pytest.raises(ServeError):
        Pipeline(steps, Path(), 4)

"""Attention for a CPU against its definition, in float64."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_worker.models import attention, polynomial_attention
from mlx_serve_worker.models.polynomial_attention import Mask, attention_by_polynomials

pytestmark = pytest.mark.engine

SCALE = 0.17


def numbers(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32))


def exact(
    queries: mx.array, keys: mx.array, values: mx.array, added: np.ndarray | float
) -> np.ndarray:
    wide = [np.array(each).astype(np.float64) for each in (queries, keys, values)]
    shared_by = wide[0].shape[1] // wide[1].shape[1]
    wide[1:] = [np.repeat(each, shared_by, axis=1) for each in wide[1:]]
    scores = wide[0] @ wide[1].swapaxes(2, 3) * SCALE + added
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: np.ndarray = powers @ wide[2] / powers.sum(axis=-1, keepdims=True)
    return result


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 7, 130])
def test_it_is_as_exact_as_mlxs_own(length: int, key_heads: int) -> None:
    queries = numbers(1, 3, 4, length, 16)
    keys, values = (numbers(seed, 3, key_heads, length, 16) for seed in (2, 3))
    expected = exact(queries, keys, values, 0.0)
    theirs = attention._by_mlx(queries, keys, values, scale=SCALE)
    ours = attention_by_polynomials(queries, keys, values, scale=SCALE, mask=None)
    error, allowed = (np.abs(np.array(each) - expected).max() for each in (ours, theirs))
    assert error <= 1.5 * allowed + 1e-6


def test_what_a_mask_hides_has_no_part_in_it() -> None:
    queries, keys, values = (numbers(seed, 2, 2, 6, 8) for seed in (1, 2, 3))
    seen = np.arange(6)[None, :] < np.array([6, 3])[:, None]
    mask = mx.array(seen)[:, None, None, :]
    ours = attention_by_polynomials(queries, keys, values, scale=SCALE, mask=mask)
    beyond = mx.where(mask.swapaxes(2, 3), values, 1e30)  # what padding computes is anything
    other = attention_by_polynomials(queries, keys, beyond, scale=SCALE, mask=mask)
    np.testing.assert_allclose(np.array(ours), np.array(other), atol=1e-6)
    added = np.where(seen, 0, -np.inf)[:, None, None, :]
    np.testing.assert_allclose(np.array(ours), exact(queries, keys, values, added), atol=3e-6)


def test_what_a_mask_adds_is_added() -> None:
    queries, keys, values = (numbers(seed, 1, 2, 5, 8) for seed in (1, 2, 3))
    bias = numbers(4, 1, 2, 5, 5)
    ours = attention_by_polynomials(queries, keys, values, scale=SCALE, mask=bias)
    np.testing.assert_allclose(
        np.array(ours), exact(queries, keys, values, np.array(bias)), atol=3e-6
    )


@pytest.mark.parametrize(("length", "places"), [(300, 300), (70, 205), (129, 129), (1, 9)])
def test_a_causal_mask_shows_what_was_before(length: int, places: int) -> None:
    queries = numbers(1, 1, 4, length, 8)
    keys, values = (numbers(seed, 1, 2, places, 8) for seed in (2, 3))
    ours = attention_by_polynomials(queries, keys, values, scale=SCALE, mask="causal")
    seen = np.arange(places - length, places)[:, None] >= np.arange(places)
    expected = exact(queries, keys, values, np.where(seen, 0, -np.inf))
    np.testing.assert_allclose(np.array(ours), expected, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "added"])
def test_blocks_make_no_difference(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys, values = (numbers(seed, 2, 2, 75, 8) for seed in (1, 2, 3))
    masks: dict[str, Mask] = {
        "none": None,
        "causal": "causal",
        "padding": (mx.arange(75) < mx.array([75, 40])[:, None])[:, None, None, :],
        "added": numbers(4, 1, 2, 75, 75),
    }

    def attend() -> np.ndarray:
        result = attention_by_polynomials(queries, keys, values, scale=SCALE, mask=masks[kind])
        return np.array(result)

    whole = attend()
    monkeypatch.setattr(polynomial_attention, "_SCORES", 1)
    monkeypatch.setattr(polynomial_attention, "_FEWEST_ROWS", 8)
    np.testing.assert_allclose(attend(), whole, atol=1e-6)


@pytest.mark.parametrize("spread", [1e-3, 30, 1e4])
def test_scores_may_be_far_apart(spread: float) -> None:
    queries, keys, values = (numbers(seed, 1, 1, 9, 8) for seed in (1, 2, 3))
    ours = attention_by_polynomials(queries * spread, keys, values, scale=SCALE, mask=None)
    expected = exact(queries * spread, keys, values, 0.0)
    np.testing.assert_allclose(np.array(ours), expected, atol=1e-5 * max(1, spread))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen_in_the_result(broken: float) -> None:
    queries, keys, values = (numbers(seed, 1, 1, 4, 8) for seed in (1, 2, 3))
    queries[0, 0, 1, 0] = broken
    ours = np.array(attention_by_polynomials(queries, keys, values, scale=SCALE, mask=None))
    assert np.isnan(ours[0, 0, 1]).all()
    assert np.isfinite(ours[0, 0, [0, 2, 3]]).all()

"""Tokens of several texts without the padding between them."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_worker import device
from mlx_serve_worker.models.token_rows import token_rows

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(device.current().fuses, reason="a GPU computes padding as well"),
]


def mask_of(*lengths: int) -> mx.array:
    return mx.arange(max(lengths))[None, :] < mx.array(lengths)[:, None]


def test_only_tokens_are_computed_and_each_comes_back_to_its_place() -> None:
    mask = mask_of(2, 5, 1)
    x = mx.random.normal((3, 5, 4))
    rows = token_rows(mask)

    packed = rows.pack(x)
    assert packed.shape == (8, 4)
    assert np.array_equal(np.array(packed), np.array(x)[np.array(mask)])
    back = np.array(rows.unpack(packed))
    assert back.shape == x.shape
    assert np.array_equal(back[np.array(mask)], np.array(packed))


@pytest.mark.parametrize("lengths", [(2, 5, 1), (3, 3, 3)])
def test_first_tokens_are_found(lengths: tuple[int, ...]) -> None:
    x = mx.random.normal((3, max(lengths), 4))
    rows = token_rows(mask_of(*lengths))
    assert np.array_equal(np.array(rows.first(rows.pack(x))), np.array(x)[:, :1])


def test_padding_is_of_its_own_text() -> None:
    rows = token_rows(mask_of(2, 4))
    x = mx.array([[[1.0], [2.0], [0.0], [0.0]], [[mx.nan], [3.0], [4.0], [5.0]]])
    assert np.array_equal(np.array(rows.unpack(rows.pack(x)))[0, :, 0], [1, 2, 2, 2])


@pytest.mark.parametrize("lengths", [(7, 7), (100, 100, 97)])
def test_little_padding_stays(lengths: tuple[int, ...]) -> None:
    x = mx.zeros((len(lengths), max(lengths), 2))
    assert token_rows(mask_of(*lengths)).pack(x).shape == x.shape


def test_without_a_mask_nothing_is_padding() -> None:
    x = mx.zeros((2, 3, 4))
    assert token_rows(None).pack(x).shape == x.shape

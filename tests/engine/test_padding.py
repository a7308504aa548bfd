"""Rows of several lengths in one array."""

import pytest

from mlx_serve_worker.models.padding import padded, padding_mask

pytestmark = pytest.mark.engine


def test_padding_is_on_the_right_and_hidden() -> None:
    assert padded([[7, 8], [9], [5, 6, 7]]).tolist() == [[7, 8, 0], [9, 0, 0], [5, 6, 7]]
    mask = padding_mask([2, 1, 3])
    assert mask is not None
    assert mask.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_rows_of_one_length_need_no_mask() -> None:
    assert padded([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert padding_mask([2, 2]) is None

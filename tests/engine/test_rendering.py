"""Both encodings carry the same float32 numbers."""

import base64
import json

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_worker.rendering import render_rows

pytestmark = pytest.mark.engine

_BITS = np.random.RandomState(2).randint(0, 2**32, size=6000, dtype=np.uint32).view(np.float32)
NUMBERS = np.concatenate(
    [_BITS[np.isfinite(_BITS)], np.array([0, -0.0, 1, 0.1, 1e-45, -1e38, 16777216], np.float32)]
)


def test_float_text_reads_back_to_the_same_bits() -> None:
    (text,) = render_rows(mx.array(NUMBERS[None]), ["float"], [True])
    assert text is not None
    read = np.array(json.loads(text), dtype=np.float32)
    np.testing.assert_array_equal(read.view(np.uint32), NUMBERS.view(np.uint32))


def test_float_text_is_the_shortest() -> None:
    (text,) = render_rows(mx.array([[0.1, 1.5, -2.0]]), ["float"], [True])
    assert text == b"[0.1,1.5,-2.0]"


def test_base64_is_little_endian_float32() -> None:
    (text,) = render_rows(mx.array(NUMBERS[None]), ["base64"], [True])
    assert text is not None
    assert base64.b64decode(json.loads(text)) == NUMBERS.astype("<f4").tobytes()


def test_rows_keep_their_order_and_their_own_encoding() -> None:
    # Transposed: MLX keeps such a matrix in another order in memory.
    matrix = mx.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).T
    first, second, third = render_rows(matrix, ["float", "base64", "float"], [True, True, False])
    assert first == b"[1.0,4.0]"
    assert second is not None
    assert np.frombuffer(base64.b64decode(json.loads(second)), "<f4").tolist() == [2.0, 5.0]
    assert third is None

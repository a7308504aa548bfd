"""A vector as the JSON value that a client asked for.

Invariants: both encodings carry the same float32 numbers exactly: base64 as their little-endian
bytes, text as the shortest decimals that read back to them.
"""

import binascii
from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx

from mlx_serve_common.wire import Encoding

_FLOAT32_BYTES = 4


def render_rows(
    vectors: mx.array, encodings: Sequence[Encoding], finite: Sequence[bool]
) -> list[bytes | None]:
    """One JSON value per row of a float32 matrix, None where the row is not finite."""
    buffer = bytes(memoryview(cast(Any, vectors)))
    row_bytes = vectors.shape[1] * _FLOAT32_BYTES
    rows = (buffer[at : at + row_bytes] for at in range(0, len(buffer), row_bytes))
    return [
        render(row, encoding) if is_finite else None
        for row, encoding, is_finite in zip(rows, encodings, finite, strict=True)
    ]


def render(row: bytes, encoding: Encoding) -> bytes:
    """``row`` holds float32 numbers in the byte order of every machine that MLX runs on."""
    if encoding == "base64":
        return b'"' + binascii.b2a_base64(row, newline=False) + b'"'
    # Imported here: most clients ask for base64, and numpy alone would double the start-up time.
    import numpy
    import orjson

    return orjson.dumps(numpy.frombuffer(row, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY)

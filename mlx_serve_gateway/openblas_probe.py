"""``python openblas_probe.py LIBRARY``: the GFLOP/s of this process's OpenBLAS, or exit code 1.

A script of its own, because OpenBLAS chooses its kernels when it is loaded.

Invariants: imports nothing of ours and nothing that takes time; a product that is not exact is no
speed at all, for kernels that a processor only seems to have compute something else.
"""

import ctypes
import sys
from array import array
from collections.abc import Callable
from time import perf_counter

_ROWS, _COLUMNS, _INNER = 96, 381, 384
_TIME_S = 0.02
_ROW_MAJOR, _NOT_TRANSPOSED, _TRANSPOSED = 101, 111, 112


def main(library: str) -> int:
    # Whole numbers, and so small that float32 holds their sums: the right answer is exact.
    left = array("f", [at * 7 % 13 - 6 for at in range(_ROWS * _INNER)])
    right = array("f", [at * 5 % 11 - 5 for at in range(_COLUMNS * _INNER)])
    product = array("f", bytes(4 * _ROWS * _COLUMNS))
    multiply = _multiplication(library, left, right, product)
    until = perf_counter() + _TIME_S
    seconds = multiply()
    while perf_counter() < until:
        seconds = min(seconds, multiply())
    if not all(
        product[row * _COLUMNS + column] == _exact(left, right, row, column)
        for row, column in zip(range(_ROWS), range(0, _COLUMNS, 4), strict=False)
    ):
        return 1
    sys.stdout.write(f"{2 * _ROWS * _COLUMNS * _INNER / seconds / 1e9}\n")
    return 0


def _multiplication(library: str, *matrices: "array[float]") -> Callable[[], float]:
    gemm = ctypes.CDLL(library).cblas_sgemm
    places = [(ctypes.c_float * len(each)).from_buffer(each) for each in matrices]
    one, nothing = ctypes.c_float(1), ctypes.c_float(0)

    def multiply() -> float:
        started = perf_counter()
        gemm(
            _ROW_MAJOR, _NOT_TRANSPOSED, _TRANSPOSED, _ROWS, _COLUMNS, _INNER,
            one, places[0], _INNER, places[1], _INNER, nothing, places[2], _COLUMNS,
        )  # fmt: skip
        return perf_counter() - started

    return multiply


def _exact(left: "array[float]", right: "array[float]", row: int, column: int) -> float:
    pairs = zip(
        left[row * _INNER : (row + 1) * _INNER],
        right[column * _INNER : (column + 1) * _INNER],
        strict=True,
    )
    return sum(a * b for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

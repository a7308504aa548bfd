"""``python probe.py [[LIBRARY, {NAME: VALUE}], ...]``: a line for each with two speeds in GFLOP/s,
at few rows and at many; 0 and 0 for one that does not compute.

A script of its own, because these libraries choose their kernels when they are loaded.

Invariants: imports nothing of ours and nothing that takes time; each is loaded in a process of its
own, so that one which ends it takes none of the others along; a product that is not exact is no
speed at all, for kernels that a processor only seems to have compute something else.
"""

import ctypes
import os
import sys
from array import array
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

_COLUMNS, _INNER = 1536, 512
_FEW, _MANY = 2, 256
_WEIGHTS = 10
"""So many matrices in turn for few rows: they come from memory, as a model's do for each word."""
_EXACT_COLUMNS = 61
_TIME_S = 0.01
_ROW_MAJOR, _NOT_TRANSPOSED, _TRANSPOSED = 101, 111, 112
_IN_LANES = (
    "openblas_set_num_threads", "MKL_Set_Num_Threads", "bli_thread_set_num_threads",
    "bli_pack_set_pack_a", "bli_pack_set_pack_b",
)  # fmt: skip
"""What is set to 1 for whole passes, as the worker's ``blas.py`` does."""


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["one", library]:
            few, many = _speeds(ctypes.CDLL(library))
            sys.stdout.write(f"{few} {many}\n")
        case _:
            import json  # which takes as long as the rest of a start

            for library, settings in json.loads(arguments[0]):
                if not _is_measured(library, settings):
                    sys.stdout.write("0 0\n")
                    sys.stdout.flush()
    return 0


def _is_measured(library: str, settings: dict[str, str]) -> bool:
    command = [sys.executable, "-I", "-S", __file__, "one", library]
    process = os.posix_spawn(command[0], command, {**os.environ, **settings})
    return os.waitpid(process, 0)[1] == 0


def _speeds(blas: ctypes.CDLL) -> tuple[float, float]:
    weights = [_ones(_COLUMNS * _INNER) for _ in range(_WEIGHTS)]
    few = _gflops(blas, _FEW, weights)
    # Whole passes are computed by as many threads as there are cores, each by itself.
    for name in _IN_LANES:
        with suppress(AttributeError):
            getattr(blas, name)(1)
    # Several threads do not get far while a server that starts beside them needs a core.
    few = max(few, _gflops(blas, _FEW, weights))
    many = _gflops(blas, _MANY, weights[:1])
    return (few, many) if few and many else (0.0, 0.0)


def _gflops(blas: ctypes.CDLL, rows: int, weights: "list[array[float]]") -> float:
    """0 if what it computes is not exact."""
    left, product = _ones(rows * _INNER), _ones(rows * _COLUMNS)
    until = perf_counter() + _TIME_S
    best = _seconds(blas, rows, left, weights, product)
    while perf_counter() < until:
        best = min(best, _seconds(blas, rows, left, weights, product))
    sums = array("f", [_INNER]) * (rows * _COLUMNS)
    if product.tobytes() != sums.tobytes() or not _is_exact(blas, rows):
        return 0.0
    return 2 * rows * _COLUMNS * _INNER * len(weights) / best / 1e9


def _ones(count: int) -> "array[float]":
    return array("f", [1.0]) * count


def _seconds(
    blas: ctypes.CDLL,
    rows: int,
    left: "array[float]",
    weights: "list[array[float]]",
    product: "array[float]",
) -> float:
    started = perf_counter()
    for right in weights:
        _multiply(blas, rows, _COLUMNS, left, right, product)
    return perf_counter() - started


def _is_exact(blas: ctypes.CDLL, rows: int) -> bool:
    # Whole numbers, and so small that float32 holds their sums: the right answer is exact.
    left = array("f", [at * 7 % 13 - 6 for at in range(13 * _INNER)]) * (rows // 13 + 1)
    right = array("f", [at * 5 % 11 - 5 for at in range(_EXACT_COLUMNS * _INNER)])
    product = array("f", bytes(4 * rows * _EXACT_COLUMNS))
    _multiply(blas, rows, _EXACT_COLUMNS, left, right, product)
    checked = zip(range(0, rows, max(1, rows // 96)), range(0, _EXACT_COLUMNS, 3), strict=False)
    return all(
        product[row * _EXACT_COLUMNS + column] == _product(left, right, row, column)
        for row, column in checked
    )


def _product(left: "array[float]", right: "array[float]", row: int, column: int) -> float:
    pairs = zip(
        left[row * _INNER : (row + 1) * _INNER],
        right[column * _INNER : (column + 1) * _INNER],
        strict=True,
    )
    return sum(a * b for a, b in pairs)


def _multiply(
    blas: ctypes.CDLL,
    rows: int,
    columns: int,
    left: "array[float]",
    right: "array[float]",
    product: "array[float]",
) -> None:
    one, nothing = ctypes.c_float(1), ctypes.c_float(0)
    blas.cblas_sgemm(
        _ROW_MAJOR, _NOT_TRANSPOSED, _TRANSPOSED, rows, columns, _INNER,
        one, _place(left), _INNER, _place(right), _INNER, nothing, _place(product), columns,
    )  # fmt: skip


def _place(matrix: "array[float]") -> ctypes.c_void_p:
    return ctypes.c_void_p(matrix.buffer_info()[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

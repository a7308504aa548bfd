"""The optimised libraries on this machine."""

import functools
import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """In the order in which they are taken where none is clearly faster, except for chat models."""

    OPENBLAS = "OpenBLAS"
    BLIS = "BLIS"
    MKL = "MKL"


_PLACES: Mapping[Kind, tuple[str, ...]] = {
    Kind.OPENBLAS: (
        "/usr/lib/*/openblas-pthread/libopenblas.so.0",
        "/usr/lib/*/libopenblas.so.0",
        "/usr/lib64/libopenblas.so.0",
        "/usr/lib/libopenblas.so.0",
    ),
    Kind.BLIS: (
        "/usr/lib/*/blis-*/libblis.so.[0-9]",
        "/usr/lib/*/libblis.so.[0-9]",
        "/usr/lib64/libblis.so.[0-9]",
        "/usr/lib/libblis.so.[0-9]",
    ),
    Kind.MKL: (
        # Where pip puts the package mkl.
        f"{sys.prefix}/lib/libmkl_rt.so.[0-9]",
        "/opt/intel/oneapi/mkl/latest/lib/libmkl_rt.so.[0-9]",
        "/opt/intel/oneapi/mkl/latest/lib/intel64/libmkl_rt.so.[0-9]",
        "/usr/lib/*/libmkl_rt.so",
        "/usr/lib64/libmkl_rt.so",
    ),
}


@functools.cache
def installed() -> Mapping[Kind, Path]:
    return search(_PLACES)


def search(places: Mapping[Kind, Iterable[str]]) -> dict[Kind, Path]:
    """One of each kind at most, in their order."""
    found = {kind: _first(places.get(kind, ())) for kind in Kind}
    return {kind: path for kind, path in found.items() if path is not None}


def _first(patterns: Iterable[str]) -> Path | None:
    root = Path("/")
    for pattern in patterns:
        for found in sorted(root.glob(pattern.lstrip("/"))):
            return found
    return None

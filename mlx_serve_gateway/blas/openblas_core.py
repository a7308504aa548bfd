"""Which of OpenBLAS's kernels are in question.

OpenBLAS takes processors that it does not know for old ones. The kernels that fit are named by the
processor's flags; what stands in the environment was set for all programs there, and perhaps
against a fault of an older library.
"""

import functools
import platform
from collections.abc import Mapping, Set
from pathlib import Path

OWN = "MLX_SERVE_OPENBLAS_CORETYPE"
"""For whoever wants certain kernels here: no others are in question."""
THEIRS = "OPENBLAS_CORETYPE"


def cores(environ: Mapping[str, str]) -> list[str | None]:
    """Their names for OpenBLAS, what the person has named before others; None leaves it to the
    library."""
    if own := environ.get(OWN):
        return [own]
    suited, theirs = suited_core(_cpu_flags()), environ.get(THEIRS)
    if suited is None or theirs is None or theirs.casefold() == suited.casefold():
        return [theirs or suited]
    return [theirs, suited]


def suited_core(flags: Set[str]) -> str | None:
    if platform.machine() not in {"x86_64", "AMD64"}:
        return None
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else None


@functools.cache
def _cpu_flags() -> Set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return next(
        (frozenset(line.split()) for line in lines if line.startswith("flags")), frozenset()
    )

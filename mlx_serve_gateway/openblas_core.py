"""Which of OpenBLAS's kernels a worker computes with.

OpenBLAS takes processors it does not know for old ones. The kernels that fit are named by the
processor's flags; what stands in the environment, where it was set for all programs and perhaps
against a fault of an older library, is measured against them.

Invariants: nothing is measured unless two names are in question; kernels that do not compute
exactly are never chosen over what the person has named.
"""

import functools
import logging
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

OWN = "MLX_SERVE_OPENBLAS_CORETYPE"
"""For whoever wants certain kernels here: they are taken without a question."""
THEIRS = "OPENBLAS_CORETYPE"

_PROBE = Path(__file__).with_name("openblas_probe.py")
_PROBE_S = 10.0
_WORTH_IT = 1.25
_ALONE = {"OPENBLAS_NUM_THREADS": "1"}
"""One thread says as much of the kernels, and is disturbed less by others on this machine."""


def core_type(library: Path, environ: Mapping[str, str]) -> str | None:
    """Its name for OpenBLAS; None leaves it to the library."""
    if own := environ.get(OWN):
        return own
    suited, theirs = suited_core(_cpu_flags()), environ.get(THEIRS)
    if suited is None or theirs is None or theirs.casefold() == suited.casefold():
        return theirs or suited
    return _faster(str(library), theirs, suited)


def suited_core(flags: set[str]) -> str | None:
    if platform.machine() not in {"x86_64", "AMD64"}:
        return None
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else None


@functools.cache
def _faster(library: str, theirs: str, suited: str) -> str:
    before, after = (_gflops(library, core) for core in (theirs, suited))
    if after <= _WORTH_IT * before:
        return theirs
    log.info(
        "workers use OpenBLAS's kernels for %s (%.0f GFLOP/s with one thread) instead of those for"
        " %s (%.0f), which %s names; %s has the last word",
        *(suited, after, theirs, before, THEIRS, OWN),
    )
    return suited


def _gflops(library: str, core: str) -> float:
    """0 if it does not compute, or not exactly."""
    command = [sys.executable, "-I", "-S", str(_PROBE), library]
    try:
        done = subprocess.run(
            command, env={THEIRS: core, **_ALONE}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=_PROBE_S, check=True,
        )  # fmt: skip
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0.0


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())

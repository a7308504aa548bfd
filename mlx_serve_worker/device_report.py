"""``python -P -m mlx_serve_worker.device_report``: a ``DeviceReport`` on stdout, then the end.

Invariants: what is reported was tried in this process, which was started as a worker is.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import msgspec

from mlx_serve_common.device import DeviceReport
from mlx_serve_worker import device

_SIDE = 64
_FAST_BLAS = ("libopenblas", "libmkl_rt", "libblis")


def report() -> DeviceReport:
    facts = mx.device_info()
    limit = facts.get("max_recommended_working_set_size")
    return DeviceReport(
        kind=device.current().name,
        name=str(facts.get("device_name", "")),
        mlx_version=version("mlx"),
        is_right=_computes(),
        gpu_limit_bytes=int(limit) if limit else None,
        blas=_loaded_blas(),
        matmul_gflops=device.current_gflops(),
    )


def _computes() -> bool:
    ones = mx.ones((_SIDE, _SIDE))
    return bool(mx.all(ones @ ones == _SIDE).item())


def _loaded_blas() -> str | None:
    """The library among those that are mapped into this process; only Linux tells."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    mapped = {line.rpartition("/")[2] for line in maps.splitlines() if "/" in line}
    return next((name for name in sorted(mapped) if name.startswith(_FAST_BLAS)), None)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(report()) + b"\n")

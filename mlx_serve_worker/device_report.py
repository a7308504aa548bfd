"""``python -P -m mlx_serve_worker.device_report``: a ``DeviceReport`` on stdout, then the end.

Invariants: what is reported was tried in this process, which was started as a worker is.
"""

import sys
from importlib.metadata import version

import mlx.core as mx
import msgspec

from mlx_serve_common.device import DeviceReport
from mlx_serve_worker import device
from mlx_serve_worker.blas import blas

_SIDE = 64


def report() -> DeviceReport:
    facts = mx.device_info()
    limit = facts.get("max_recommended_working_set_size")
    library = blas()
    return DeviceReport(
        kind=device.current().name,
        name=str(facts.get("device_name", "")),
        mlx_version=version("mlx"),
        is_right=_computes(),
        gpu_limit_bytes=int(limit) if limit else None,
        blas=None if library is None else library.configuration,
        matmul_gflops=device.current_gflops(),
    )


def _computes() -> bool:
    ones = mx.ones((_SIDE, _SIDE))
    return bool(mx.all(ones @ ones == _SIDE).item())


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(report()) + b"\n")

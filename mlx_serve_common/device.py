"""What a worker computes with on this machine, as a process of the worker package found it."""

import msgspec

SLOW_GFLOPS = 10.0
"""Products of matrices on a CPU: MLX's own library reaches 3 to 6, an optimised one 50 and more."""


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    """``cpu``, ``metal`` or ``cuda``."""
    name: str
    mlx_version: str
    is_right: bool
    """Whether a small product came out as it must."""
    gpu_limit_bytes: int | None = None
    """Memory that the system lets the GPU use, where it tells."""
    blas: str | None = None
    """The optimised library that computes on a CPU, where one was loaded, and its kernels."""
    matmul_gflops: float | None = None
    """How fast it multiplies matrices, where it is a CPU."""

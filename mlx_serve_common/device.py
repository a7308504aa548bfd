"""What a worker computes with on this machine, as a process of the worker package found it."""

import msgspec


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
    """The optimised library that computes on a CPU, where one was loaded."""

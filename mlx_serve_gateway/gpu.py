"""Whether a GPU computes here, told by what is installed: MLX itself is not for this process."""

import sys
from importlib.util import find_spec
from pathlib import Path


def has_gpu() -> bool:
    """Every Mac that MLX runs on has one."""
    return sys.platform == "darwin" or any(map(_is_for_cuda, _folders()))


def _folders() -> list[Path]:
    """Where MLX is installed."""
    mlx = find_spec("mlx")
    places = [] if mlx is None else mlx.submodule_search_locations or []
    return [Path(place).parent for place in places]


def _is_for_cuda(packages: Path) -> bool:
    return any(packages.glob("mlx_cuda_*.dist-info"))

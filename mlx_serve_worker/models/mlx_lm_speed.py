"""What mlx-lm's models compute with on a CPU in place of MLX's own: our SiLU and our attention.

Invariants: no result differs by more than rounding; a GPU keeps everything of MLX.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_worker import device
from mlx_serve_worker.models.activations import silu
from mlx_serve_worker.models.attention import any_attention


def speed_up_mlx_lm() -> None:
    """Its models look both up whenever they compute."""
    if not device.current().fuses:
        nn.silu = silu
        fast: Any = mx.fast
        fast.scaled_dot_product_attention = any_attention

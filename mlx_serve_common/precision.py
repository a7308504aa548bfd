"""What a model's weights take as float32, which is all that a CPU is fast at. Pure."""

from mlx_serve_common.models import Manifest

_HALF = ("float16", "bfloat16")
_FLOAT32_BITS = 32
_FEWEST_BITS = 2


def widened_bytes(manifest: Manifest) -> int:
    """At most: layers that are not quantized in a model that is count as if they were."""
    if manifest.quantization is not None:
        bits = manifest.quantization.get("bits")
        # A file that somebody has edited stops no server.
        sane = bits if isinstance(bits, int) and bits > 0 else _FEWEST_BITS
        return manifest.weights_bytes * _FLOAT32_BITS // sane
    return manifest.weights_bytes * (2 if manifest.dtype in _HALF else 1)


def loaded_bytes(weights_bytes: int) -> int:
    """With what computing takes besides."""
    return weights_bytes * 6 // 5

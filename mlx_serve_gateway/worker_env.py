"""The environment a worker starts with: no secrets, no network, and the fastest BLAS there is.

MLX's own CPU library is a reference implementation, 30 times slower than an optimised one, and can
only be replaced before the process starts. Nothing of that is done on macOS, where Metal computes.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlx_serve_gateway.openblas_core import THEIRS, core_type

_KEPT = {
    "HOME", "LANG", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOGNAME", "MLX_SERVE_TEST_BACKENDS", "PATH",
    "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
}  # fmt: skip
_KEPT_PREFIXES = (
    "BLIS_", "CUDA_", "GOTO_", "LC_", "METAL_", "MKL_", "MTL_", "NVIDIA_", "OMP_", "OPENBLAS_",
    "PYTHON",
)  # fmt: skip

_HUB_PREFIXES = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
# Compared without regard to case: both are in use for proxies.
_NETWORK = {
    "ALL_PROXY", "CURL_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR", "SSL_CERT_FILE", "XDG_CACHE_HOME",
}  # fmt: skip

_OPENBLAS = (
    "/usr/lib/*/openblas-pthread/libopenblas.so.0",
    "/usr/lib/*/libopenblas.so.0",
    "/usr/lib64/libopenblas.so.0",
    "/usr/lib/libopenblas.so.0",
)
_PATIENCE = "OPENBLAS_THREAD_TIMEOUT"
"""How long its threads keep asking for work, as a power of two of the processor's ticks."""
_LONGER_THAN_BETWEEN_PRODUCTS = "20"
"""Some 0.4 ms. By itself it is 27 ms after each answer, of every core but one."""


def worker_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    source = os.environ if environ is None else environ
    kept = {
        name: value
        for name, value in source.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    kept["HF_HUB_OFFLINE"] = kept["TRANSFORMERS_OFFLINE"] = "1"
    # Whoever preloads a library has chosen it, and how it is set.
    if sys.platform == "linux" and "LD_PRELOAD" not in kept:
        kept |= _fast_blas(source)
    return kept


def pull_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a download: the same, with the network, the hub's settings and the person's token."""
    source = os.environ if environ is None else environ
    kept = worker_environment(source)
    # Whether to stay offline is the person's choice here.
    del kept["HF_HUB_OFFLINE"], kept["TRANSFORMERS_OFFLINE"]
    for name, value in source.items():
        if name.startswith(_HUB_PREFIXES) or name.upper() in _NETWORK:
            kept[name] = value
    return kept


def _fast_blas(environ: Mapping[str, str]) -> dict[str, str]:
    library = find_openblas()
    if library is None:
        return {}
    patience = environ.get(_PATIENCE, _LONGER_THAN_BETWEEN_PRODUCTS)
    chosen = {"LD_PRELOAD": str(library), _PATIENCE: patience}
    if core := core_type(library, environ):
        chosen[THEIRS] = core
    return chosen


def find_openblas(patterns: Iterable[str] = _OPENBLAS) -> Path | None:
    root = Path("/")
    for pattern in patterns:
        for found in sorted(root.glob(pattern.lstrip("/"))):
            return found
    return None

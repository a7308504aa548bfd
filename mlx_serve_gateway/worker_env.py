"""The environment a worker starts with: no secrets, no network, and the BLAS that suits it."""

import os
import sys
from collections.abc import Mapping

from mlx_serve_gateway.blas import choice
from mlx_serve_gateway.blas.candidates import THEIR_PREFIXES

_KEPT = {
    "HOME", "LANG", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOGNAME", "MLX_SERVE_TEST_BACKENDS", "PATH",
    "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
}  # fmt: skip
_KEPT_PREFIXES = ("CUDA_", "LC_", "METAL_", "MTL_", "NVIDIA_", "PYTHON", *THEIR_PREFIXES)

_HUB_PREFIXES = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
# Compared without regard to case: both are in use for proxies.
_NETWORK = {
    "ALL_PROXY", "CURL_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR", "SSL_CERT_FILE", "XDG_CACHE_HOME",
}  # fmt: skip


def worker_environment(
    environ: Mapping[str, str] | None = None, *, is_chat: bool = False
) -> dict[str, str]:
    source = os.environ if environ is None else environ
    kept = {
        name: value
        for name, value in source.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    kept["HF_HUB_OFFLINE"] = kept["TRANSFORMERS_OFFLINE"] = "1"
    if _may_choose_blas(source) and (blas := choice.chosen(source, is_chat=is_chat)):
        kept |= blas.environment
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


def prepare(environ: Mapping[str, str]) -> None:
    """What takes a while is begun; the first environment that is asked for waits for it."""
    if _may_choose_blas(environ):
        choice.begin(environ)


def _may_choose_blas(environ: Mapping[str, str]) -> bool:
    """On macOS Metal computes; whoever preloads a library has chosen it, and how it is set."""
    return sys.platform == "linux" and "LD_PRELOAD" not in environ

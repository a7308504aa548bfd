"""Which backend runs a model: the only module that chooses one.

Invariants: a backend is imported when a model needs it, and not before; nothing that the loop
needs imports this module, so that the loop stays free of MLX.
"""

import os
from pathlib import Path

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ManifestError, read_manifest
from mlx_serve_worker.backend import Backend

TEST_BACKENDS = "MLX_SERVE_TEST_BACKENDS"


def make_backend(path: Path, custom_models: Path | None = None) -> Backend:
    """``custom_models`` is the folder of the person's own architectures."""
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise ServeError(ErrorCode.INVALID_MODEL, f"the model cannot be loaded: {error}") from None
    if manifest.backend == "encoder":
        from mlx_serve_worker.backends.encoder import EncoderBackend

        return EncoderBackend(path, custom_models)
    if manifest.backend == "reranker":
        from mlx_serve_worker.backends.reranker import RerankerBackend

        return RerankerBackend(path)
    if manifest.backend == "fake" and os.environ.get(TEST_BACKENDS) == "1":
        from mlx_serve_worker.backends.fake import FakeBackend

        return FakeBackend(manifest.options)
    raise ServeError(
        ErrorCode.INVALID_MODEL, f"this version has no backend named {manifest.backend!r}"
    )

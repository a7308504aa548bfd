"""Which backend runs a model: the only module that chooses one.

Invariants: a backend is imported when a model needs it, and not before; nothing that the loop
needs imports this module, so that the loop stays free of MLX.
"""

import os
from pathlib import Path

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.launch import LaunchSpec
from mlx_serve_common.models import Manifest, ManifestError, ModelKind, read_manifest
from mlx_serve_worker.backend import Backend, Generator

TEST_BACKENDS = "MLX_SERVE_TEST_BACKENDS"


def make_launched(spec: LaunchSpec) -> Backend | Generator:
    """What a worker is to run."""
    path = Path(spec.model_path)
    if _manifest(path).kind is ModelKind.CHAT:
        return _make_generator(path, spec)
    return make_backend(path, _folder(spec.custom_models), widens=spec.allowance.widens)


def import_for_chat() -> None:
    """What takes a chat model's worker a third of a second, without a model."""
    from mlx_serve_worker.backends import generator  # noqa: F401


def make_backend(path: Path, custom_models: Path | None = None, *, widens: bool = False) -> Backend:
    """``custom_models`` is the folder of the person's own architectures."""
    manifest = _manifest(path)
    if manifest.backend == "encoder":
        from mlx_serve_worker.backends.encoder import EncoderBackend

        return EncoderBackend(path, custom_models, widens=widens)
    if manifest.backend == "reranker":
        from mlx_serve_worker.backends.reranker import RerankerBackend

        return RerankerBackend(path, widens=widens)
    if manifest.backend == "fake" and _is_test():
        from mlx_serve_worker.backends.fake import FakeBackend

        return FakeBackend(manifest.options)
    raise _unknown(manifest)


def _make_generator(path: Path, spec: LaunchSpec) -> Generator:
    manifest = _manifest(path)
    if manifest.backend == "generator":
        from mlx_serve_worker.backends.generator import GeneratorBackend

        allowed = spec.allowance
        return GeneratorBackend(
            path, _folder(spec.custom_models), allowed.generation, widens=allowed.widens
        )
    if manifest.backend == "fake" and _is_test():
        from mlx_serve_worker.backends.fake_generator import FakeGenerator

        return FakeGenerator(manifest.options)
    raise _unknown(manifest)


def _manifest(path: Path) -> Manifest:
    try:
        return read_manifest(path)
    except ManifestError as error:
        raise ServeError(ErrorCode.INVALID_MODEL, f"the model cannot be loaded: {error}") from None


def _folder(path: str | None) -> Path | None:
    return None if path is None else Path(path)


def _is_test() -> bool:
    return os.environ.get(TEST_BACKENDS) == "1"


def _unknown(manifest: Manifest) -> ServeError:
    return ServeError(
        ErrorCode.INVALID_MODEL, f"this version has no backend named {manifest.backend!r}"
    )

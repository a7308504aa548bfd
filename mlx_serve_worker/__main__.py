"""``python -P -m mlx_serve_worker LAUNCH_SPEC``: one model, until the gateway says otherwise.

The only place that chooses a backend, so that no other module imports one it does not need.
"""

from mlx_serve_worker import lifeline

lifeline.die_with_parent()
lifeline.ignore_group_signals()

import logging  # noqa: E402 - nothing may be imported before the process is bound to its parent
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import msgspec  # noqa: E402

from mlx_serve_common.errors import ErrorCode, ServeError  # noqa: E402
from mlx_serve_common.models import ManifestError, read_manifest  # noqa: E402
from mlx_serve_common.wire import LaunchSpec  # noqa: E402
from mlx_serve_worker.backend import Backend  # noqa: E402
from mlx_serve_worker.loop import Loop  # noqa: E402

TEST_BACKENDS = "MLX_SERVE_TEST_BACKENDS"


def make_backend(path: Path) -> Backend:
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise ServeError(ErrorCode.INVALID_MODEL, f"the model cannot be loaded: {error}") from None
    if manifest.backend == "encoder":
        from mlx_serve_worker.backends.encoder import EncoderBackend

        return EncoderBackend(path)
    if manifest.backend == "fake" and os.environ.get(TEST_BACKENDS) == "1":
        from mlx_serve_worker.backends.fake import FakeBackend

        return FakeBackend(manifest.options)
    raise ServeError(
        ErrorCode.INVALID_MODEL, f"this version has no backend named {manifest.backend!r}"
    )


def main() -> None:
    token = lifeline.receive_secret()
    spec = msgspec.json.decode(sys.argv[1], type=LaunchSpec)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    path = Path(spec.model_path)
    code = Loop(spec, token, lambda: make_backend(path)).run()
    logging.shutdown()
    # The interpreter's own shutdown would wait for MLX to tear down; the kernel does it better.
    os._exit(code)


main()

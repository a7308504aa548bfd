"""A first run of a model before it is installed: does it load, and does it give sane vectors?

Invariants: uses the same code as a worker does; passes only if the vectors are finite, as long as
declared, and the same alone as in a batch with a longer text.
"""

import array
import base64
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_common.wire import Embed
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.backends.encoder import EncoderBackend

_TEXTS = (
    "A short text.",
    "A longer text, so that the short one has to be padded: 1, 2, 3, 한국어, ünïcödé. " * 3,
)
# Of a vector's largest number. Half precision on a GPU differs by up to a hundredth.
_TOLERANCE = 0.02


def try_out(folder: Path, manifest: Manifest) -> None:
    backend = EncoderBackend(folder)
    backend.load()
    inputs: list[Prepared] = []
    for prepared in backend.prepare(Embed([*range(len(_TEXTS))], list(_TEXTS), "base64", "right")):
        if isinstance(prepared, ServeError):
            raise _failed(prepared.message)
        inputs.append(prepared)
    together = _vectors(backend, inputs)
    for prepared, in_batch in zip(inputs, together, strict=True):
        (alone,) = _vectors(backend, [prepared])
        if len(alone) != manifest.dimensions:
            raise _failed(f"it gives {len(alone)} dimensions, not {manifest.dimensions}")
        worst = max(abs(a - b) for a, b in zip(alone, in_batch, strict=True))
        if worst > _TOLERANCE * max(map(abs, alone)):
            raise _failed("a text has another vector in a batch than alone")


def _vectors(backend: EncoderBackend, inputs: list[Prepared]) -> list[Sequence[float]]:
    vectors: list[Sequence[float]] = []
    for rendered in backend.forward(inputs):
        if not isinstance(rendered, bytes):
            raise _failed("its output is not finite")
        vectors.append(array.array("f", base64.b64decode(msgspec.json.decode(rendered, type=str))))
    return vectors


def _failed(reason: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"the model fails its trial run: {reason}")

"""A second, quantized form of an installed model: made, compared with the original, published.

Invariants: the original is only read, and is the same at the end as at the beginning; what fails
its trial here is never published.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlx_serve_common.conversion import Conversion
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import Manifest, ManifestError, read_manifest
from mlx_serve_common.names import check_name
from mlx_serve_common.store import Store, name_taken
from mlx_serve_worker.converting import convert
from mlx_serve_worker.model_folder import read_checked_manifest

Report = Callable[[JobEvent], None]


class Wish(NamedTuple):
    """What the person who quantizes a model says about it."""

    model: str
    conversion: Conversion
    name: str | None = None
    custom_models: Path | None = None
    """The folder of their own architectures."""


def quantize_model(store: Store, wish: Wish, report: Report) -> Manifest:
    """The manifest of the model that was made."""
    wanted = wish.conversion
    source = store.models_dir / check_name(wish.model)
    original = _original(source)
    name = check_name(wish.name or wanted.name_of(source.name))
    report(JobEvent(status="resolving", detail=name))

    def on_wait() -> None:
        report(JobEvent(status="resolving", detail=f"another process is installing {name}"))

    with store.locked(name, on_wait):
        store.refuse_other_spelling(name)
        if store.installed(name) is not None:
            raise name_taken(name)
        with store.staging() as staged:
            manifest = convert(source, staged, name, wanted, wish.custom_models, report)
            if _original(source).files != original.files:
                message = f"{source.name} was replaced meanwhile; quantize it again"
                raise ServeError(ErrorCode.INVALID_REQUEST, message)
            report(JobEvent(status="verifying", detail="writing to disk"))
            store.publish(staged, name, replace=False)
    return manifest


def _original(folder: Path) -> Manifest:
    try:
        read_manifest(folder)
    except ManifestError as error:
        message = f"{folder.name} is no installed model: {error}"
        raise ServeError(ErrorCode.MODEL_NOT_FOUND, message) from None
    return read_checked_manifest(folder)

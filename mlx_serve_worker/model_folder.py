"""An installed model's folder, as a worker finds it.

Invariants: a file that is not the one that was installed is refused before anything is read of it.
"""

import stat
from pathlib import Path
from typing import Any

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, ManifestError, read_manifest
from mlx_serve_common.undecodable import UNDECODABLE


def read_checked_manifest(folder: Path) -> Manifest:
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        raise _unfit(f"the model is unfit: {error}") from None
    for name, record in manifest.files.items():
        try:
            found = (folder / name).lstat()
        except OSError:
            raise _unfit(f"the model's {name} is missing") from None
        if not stat.S_ISREG(found.st_mode) or found.st_size != record.size:
            raise _unfit(f"the model's {name} was changed since it was installed")
    return manifest


def read_config(folder: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
    except (OSError, *UNDECODABLE):
        raise _unfit("config.json cannot be read") from None


def checked_max_tokens(manifest: Manifest, positions: int) -> int:
    # MLX reads beyond the end of a table of positions without an error.
    if manifest.max_tokens is None or not 0 < manifest.max_tokens <= positions:
        raise _unfit(
            f"the manifest allows {manifest.max_tokens} tokens, the model has {positions} positions"
        )
    return manifest.max_tokens


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)

"""How many tokens of one pass suit a model on a device, as a worker has measured it.

Invariants: a note is on the disk whole or not at all; one that is damaged, or of another device,
library or content of the model, is as good as none; there are at most ``_MOST`` in a models folder.
"""

import contextlib
import hashlib
import secrets
from pathlib import Path

import msgspec

from mlx_serve_common.durable import sync
from mlx_serve_common.plain_file import read_plain
from mlx_serve_common.undecodable import UNDECODABLE

_FOLDER = ".budgets"
_MOST = 256
_MOST_BYTES = 4096


class MeasuredBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    """Its name, for people who look."""
    circumstances: str
    """All that the figure depends on, as one string."""
    tokens: int


def read_budget(models_dir: Path, name: str, circumstances: str) -> int | None:
    try:
        content = read_plain(_path(models_dir, name), _MOST_BYTES).content
        noted = msgspec.json.decode(content, type=MeasuredBudget)
    except (OSError, *UNDECODABLE):
        return None
    return noted.tokens if noted.circumstances == circumstances else None


def note_budget(models_dir: Path, measured: MeasuredBudget) -> None:
    """Instead of what is noted for that model; OSError if it cannot be."""
    path = _path(models_dir, measured.model)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    _keep_newest(path.parent, _MOST - 1)
    # Each writer has its own: two servers may measure the same model.
    beside = path.with_suffix(f".{secrets.token_hex(4)}.new")
    try:
        beside.write_bytes(msgspec.json.encode(measured))
        sync(beside)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync(path.parent)


def forget_budget(models_dir: Path, name: str) -> None:
    with contextlib.suppress(OSError):
        _path(models_dir, name).unlink()


def _path(models_dir: Path, name: str) -> Path:
    key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return models_dir / _FOLDER / f"{key}.json"


def _keep_newest(folder: Path, count: int) -> None:
    def age(path: Path) -> float:
        try:
            return path.lstat().st_mtime
        except OSError:  # another server has just removed it
            return 0.0

    for path in sorted(folder.iterdir(), key=age, reverse=True)[count:]:
        with contextlib.suppress(OSError):
            path.unlink()

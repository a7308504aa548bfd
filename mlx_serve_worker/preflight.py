"""What of a repository is worth downloading, and why not to begin: decided before the first byte.

Pure. Invariants: nothing is chosen but safetensors, JSON, templates and word lists, of the folders
that the model is made of; what is chosen fits every limit and has one meaning on every file system.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.names import clash_key
from mlx_serve_worker.listing import Listing, RemoteFile
from mlx_serve_worker.repository import (
    MAX_JSON_BYTES,
    MAX_REPOSITORY_BYTES,
    refuse_names_without_safetensors,
    safe_folder,
    unfit,
    unsafe,
)

MODULES_FILE = "modules.json"
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_MAX_TOKENIZER_BYTES = 256 * 1024**2
_MAX_WEIGHTS_BYTES = 100 * 1024**3
_MAX_OTHER_BYTES = 1024**2
# What every model may have, and may be large; other JSON is taken along while it is small.
_KNOWN_FILES = (
    "config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", TOKENIZER_FILE, MODULES_FILE, INDEX_FILE,
)  # fmt: skip
_WEIGHTS = ".safetensors"
_LEAST_SPARE_BYTES = 64 * 1024**2
_MOST_SPARE_BYTES = 1024**3


class Layout(NamedTuple):
    """Where the parts of the model lie: below the top, or at the top, which is ""."""

    transformer: str = ""
    modules: tuple[str, ...] = ()


class Plan(NamedTuple):
    small: list[RemoteFile]
    """What says what the model is; it tells whether the rest is worth its bytes."""
    weights: list[RemoteFile]

    @property
    def files(self) -> list[RemoteFile]:
        return [*self.small, *self.weights]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def read_layout(modules: object) -> Layout:
    """The folders that ``modules.json`` names."""
    if not isinstance(modules, list):
        return Layout()
    paths = [module.get("path") for module in modules if isinstance(module, dict)]
    folders = [safe_folder(path) if path else "" for path in paths]
    return Layout(folders[0] if folders else "", tuple(folder for folder in folders if folder))


def read_shards(index: Mapping[str, Any]) -> list[str]:
    """The files that an index names."""
    named = index.get("weight_map")
    values = set(named.values()) if isinstance(named, dict) else set()
    if not values or not all(isinstance(value, str) for value in values):
        raise unfit(f"{INDEX_FILE} names no files")
    return sorted(values)


_UNKNOWN = Layout()


def plan(listing: Listing, layout: Layout = _UNKNOWN, shards: Sequence[str] | None = None) -> Plan:
    """``shards`` are the transformer's files as its index names them, once that is known."""
    _refuse_without_weights(listing, layout)
    folders = dict.fromkeys(("", layout.transformer, *layout.modules))
    small = [file for folder in folders for file in _in(listing, folder) if _says_what_it_is(file)]
    weights = [
        file
        for folder in dict.fromkeys((layout.transformer, *layout.modules))
        for file in _weights(listing, folder, shards if folder == layout.transformer else None)
    ]
    chosen = Plan(sorted(small, key=lambda file: file.size), sorted(weights))
    _refuse_clashes(chosen.files)
    _refuse_oversize(chosen)
    return chosen


def refuse_without_room(missing_bytes: int, free_bytes: int, made_bytes: int = 0) -> None:
    """Some room has to be left: the system swaps to the same disk, and models are tried first.

    ``made_bytes`` are those of a model that is made of what comes.
    """
    needed = missing_bytes + made_bytes
    spare = max(_LEAST_SPARE_BYTES, min(needed, _MOST_SPARE_BYTES))
    if needed and free_bytes < needed + spare:
        made = f" {_megabytes(made_bytes)} for what is made of it," if made_bytes else ""
        raise ServeError(
            ErrorCode.INSUFFICIENT_STORAGE,
            f"no room for the model: {_megabytes(missing_bytes)} to download,{made} and"
            f" {_megabytes(spare)} to spare, {_megabytes(free_bytes)} are free",
        )


def _refuse_without_weights(listing: Listing, layout: Layout) -> None:
    names = listing.files
    if MODULES_FILE in names and layout == _UNKNOWN:
        # They may lie in a folder that is not known yet.
        refuse_names_without_safetensors(names)
    else:
        refuse_names_without_safetensors(_name(file) for file in _in(listing, layout.transformer))


def _in(listing: Listing, folder: str) -> list[RemoteFile]:
    parent = PurePosixPath(folder)
    return [file for file in listing.files.values() if PurePosixPath(file.name).parent == parent]


def _name(file: RemoteFile) -> str:
    return PurePosixPath(file.name).name


def _says_what_it_is(file: RemoteFile) -> bool:
    name = _name(file)
    is_small_one = name.endswith((".json", ".jinja")) and file.size <= _MAX_OTHER_BYTES
    return name in _KNOWN_FILES or (is_small_one and not name.startswith("."))


def _weights(listing: Listing, folder: str, shards: Sequence[str] | None) -> list[RemoteFile]:
    """As they are found on disk: the single file, those of the index, or all there are."""
    found = {_name(file): file for file in _in(listing, folder) if _name(file).endswith(_WEIGHTS)}
    if (single := found.get(WEIGHTS_FILE)) is not None:
        return [single]
    if shards is None:
        return [file for name, file in found.items() if not name.startswith(".")]
    if missing := [name for name in shards if name not in found]:
        raise unfit(f"{INDEX_FILE} names {missing[0][:80]!r}, which is not there")
    return [found[name] for name in shards]


def _refuse_clashes(files: Iterable[RemoteFile]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        if (other := seen.setdefault(clash_key(file.name), file.name)) != file.name:
            raise unsafe(f"{other!r} and {file.name!r} differ only in spelling")


def _refuse_oversize(chosen: Plan) -> None:
    for file in chosen.files:
        if file.size > (limit := _limit(_name(file))):
            raise unsafe(f"{file.name!r} has {file.size} bytes; {limit} are the most it may have")
    if chosen.total_bytes > MAX_REPOSITORY_BYTES:
        raise unsafe(f"the model has {chosen.total_bytes} bytes; {MAX_REPOSITORY_BYTES} at most")


def _limit(name: str) -> int:
    if name.endswith(_WEIGHTS):
        return _MAX_WEIGHTS_BYTES
    return _MAX_TOKENIZER_BYTES if name == TOKENIZER_FILE else MAX_JSON_BYTES


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

"""Safetensors files to the parameters of a model.

Invariants: a file's header is checked before MLX opens it, because MLX accepts overlapping tensors
and shapes that overflow; every parameter of the model is found exactly once, with its shape and a
type we know how to compute; a tensor that the model has no use for is never read.
"""

import math
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten, tree_unflatten

from mlx_serve_common.conversion import ITEM_BYTES
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_worker import load_progress

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

MAX_FILE_BYTES = 100 * 1024**3
_MAX_HEADER_BYTES = 32 * 1024**2
_MAX_INDEX_BYTES = 64 * 1024**2
_MAX_TENSORS = 200_000
_PREFIX_BYTES = 8
_PORTION_BYTES = 256 * 1024**2

_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_COMPUTED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# What MLX packs quantized values and their scales into.
_PACKED = {mx.uint32: ("U32",), mx.uint8: ("U8",)}

# MLX keeps a side as a signed 32-bit number and would turn a larger one into a negative.
_Side = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Offset = Annotated[int, msgspec.Meta(ge=0)]

Rename = Callable[[str], str | None]


class Tensor(msgspec.Struct, frozen=True):
    """What a header says about one tensor."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: Annotated[list[_Side], msgspec.Meta(max_length=8)]
    data_offsets: tuple[_Offset, _Offset]


_decode_entry = msgspec.json.Decoder(_Entry).decode


class Parameterized(Protocol):
    def parameters(self) -> Any: ...

    def update(self, parameters: Any) -> Any: ...


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)


def read_header(path: Path) -> list[Tensor]:
    """The tensors of one file, after every check that can be made without reading them."""
    entries, data_bytes = _read_entries(path)
    if len(entries) > _MAX_TENSORS:
        raise _unfit(f"{path.name} holds {len(entries)} tensors; {_MAX_TENSORS} at most")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        size = _ITEM_BYTES.get(entry.dtype)
        if size is None:
            raise _unfit(f"{path.name}: {name[:80]!r} has the unknown type {entry.dtype[:16]!r}")
        begin, next_begin = entry.data_offsets
        if begin != end or next_begin - begin != math.prod(entry.shape) * size:
            raise _unfit(f"{path.name} is damaged: the place of {name[:80]!r} is impossible")
        end = next_begin
    if end != data_bytes:
        raise _unfit(f"{path.name} is damaged: it holds {data_bytes} bytes of {end}")
    return [Tensor(path, name, entry.dtype, tuple(entry.shape)) for name, entry in entries.items()]


def _read_entries(path: Path) -> tuple[dict[str, _Entry], int]:
    """The header of a file, and how many bytes of data follow it."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise _unfit(f"{path.name} is not a regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise _unfit(f"{path.name} is larger than {MAX_FILE_BYTES // 1024**3} GiB")
        with path.open("rb") as file:
            prefix = file.read(_PREFIX_BYTES)
            header_bytes = int.from_bytes(prefix, "little")
            data_bytes = found.st_size - _PREFIX_BYTES - header_bytes
            if len(prefix) < _PREFIX_BYTES or data_bytes < 0:
                raise _unfit(f"{path.name} is cut short, or no safetensors file")
            if header_bytes > _MAX_HEADER_BYTES:
                raise _unfit(f"{path.name} has a header of more than {_MAX_HEADER_BYTES} bytes")
            header = msgspec.json.decode(file.read(header_bytes), type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        return {name: _decode_entry(raw) for name, raw in header.items()}, data_bytes
    except OSError as error:
        raise _unfit(f"{path.name} cannot be read: {error.strerror}") from None
    except UNDECODABLE:
        raise _unfit(f"{path.name} is damaged: its header makes no sense") from None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model: the single one, those of the index, or all there are."""
    single = folder / WEIGHTS_FILE
    if single.exists():
        return [single]
    index = folder / INDEX_FILE
    if index.exists():
        return [folder / name for name in _index_names(index)]
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def _index_names(index: Path) -> list[str]:
    class Index(msgspec.Struct):
        weight_map: dict[str, str]

    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise _unfit(f"{INDEX_FILE} is too large")
        names = set(msgspec.json.decode(index.read_bytes(), type=Index).weight_map.values())
    except (OSError, *UNDECODABLE):
        raise _unfit(f"{INDEX_FILE} is damaged") from None
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors") or name[0] == ".":
            raise _unfit(f"{INDEX_FILE} names a file that it may not: {name[:80]!r}")
    return sorted(names)


class Located(msgspec.Struct, frozen=True):
    """Where each parameter of a model lies in its files, and which tensors are left over."""

    tensors: dict[str, Tensor]
    unknown: list[str]

    @property
    def dtype(self) -> str:
        """What is computed in, by its usual name."""
        # Quantized values are packed into integers; what is left tells what is computed in.
        plain = [tensor for tensor in self.tensors.values() if tensor.dtype in _COMPUTED]
        return _COMPUTED[max(plain, key=lambda tensor: math.prod(tensor.shape)).dtype]

    @property
    def item_bytes(self) -> int:
        """Of one number that is computed in."""
        return ITEM_BYTES[self.dtype]


def locate(model: Parameterized, files: Iterable[Path], rename: Rename) -> Located:
    """Find every parameter of ``model`` in ``files``, by headers alone."""
    expected = dict(tree_flatten(model.parameters()))
    tensors: dict[str, Tensor] = {}
    unknown: list[str] = []
    for tensor in (tensor for path in files for tensor in read_header(path)):
        name = rename(tensor.name)
        if name is None:
            continue
        if name not in expected:
            refuse_part_of_quantized(name)
            unknown.append(tensor.name)
            continue
        if name in tensors:
            raise _unfit(f"the weights hold {tensor.name[:80]!r} twice")
        check_fit(tensor, expected[name])
        tensors[name] = tensor
    refuse_missing(expected.keys() - tensors.keys(), len(expected))
    return Located(tensors, unknown)


def check_fit(tensor: Tensor, parameter: mx.array) -> None:
    shape = tuple(parameter.shape)
    if tensor.shape != shape:
        raise _unfit(
            f"{tensor.name[:80]!r} has the shape {list(tensor.shape)}, config.json says"
            f" {list(shape)}"
        )
    if tensor.dtype not in _PACKED.get(parameter.dtype, tuple(_COMPUTED)):
        raise _unfit(f"{tensor.name[:80]!r} is stored as {tensor.dtype}, which is not supported")


def refuse_missing(names: Collection[str], needed: int) -> None:
    if names:
        shown = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
        raise _unfit(f"the weights lack {len(names)} of {needed} parameters: {shown}")


def refuse_part_of_quantized(name: str) -> None:
    """``name`` belongs to no parameter."""
    if name.endswith((".scales", ".biases", ".global_scale")):
        raise _unfit(f"{name[:80]!r} is part of a layer that is not quantized here")


def load(
    model: Parameterized, files: Iterable[Path], rename: Rename, *, keep_half: bool = False
) -> None:
    """Put the stored values into ``model``, as float32 unless half precision is to be kept."""
    located = locate(model, files, rename)
    stored = {
        path: open_file(path) for path in {tensor.file for tensor in located.tensors.values()}
    }
    values = [(name, stored[tensor.file][tensor.name]) for name, tensor in located.tensors.items()]
    if not keep_half:
        values = [(name, widened(value)) for name, value in values]
    model.update(tree_unflatten(values))
    read([value for _, value in values])


def read(values: Sequence[mx.array]) -> None:
    """Have MLX read what it has only opened until now, telling how far it is."""
    load_progress.tell("weights", 0.0)
    total = sum(value.nbytes for value in values)
    done, portion, size = 0, list[mx.array](), 0
    for value in values:
        portion.append(value)
        size += value.nbytes
        if size >= _PORTION_BYTES:
            mx.eval(portion)
            done, portion, size = done + size, [], 0
            load_progress.tell("weights", done / total)
    mx.eval(portion)


def widened(value: mx.array) -> mx.array:
    return value if value.dtype in _PACKED else value.astype(mx.float32)


def open_file(path: Path) -> dict[str, mx.array]:
    try:
        return cast(dict[str, mx.array], mx.load(str(path)))
    except (RuntimeError, ValueError):
        raise _unfit(f"{path.name} cannot be read by MLX") from None

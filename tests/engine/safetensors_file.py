"""Writes safetensors files byte by byte, so that tests can also write broken ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Tensors = Mapping[str, np.ndarray[Any, Any]]


def to_bytes(values: np.ndarray[Any, Any], dtype: str) -> bytes:
    if dtype != "BF16":
        return values.astype({"F32": "<f4", "F16": "<f2", "I64": "<i8"}[dtype]).tobytes()
    # Rounded to the nearest, ties to even, as torch does.
    bits = values.astype("<f4").view("<u4")
    rounded: np.ndarray[Any, np.dtype[np.uint32]] = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype("<u2").tobytes()


def write(path: Path, tensors: Tensors, dtype: str = "F32") -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in tensors.items():
        stored = "I64" if values.dtype.kind == "i" else dtype
        raw = to_bytes(values, stored)
        header[name] = {
            "dtype": stored,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    write_raw(path, header, data)


def write_raw(path: Path, header: Any, data: bytes, header_bytes: int | None = None) -> None:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    length = len(encoded) if header_bytes is None else header_bytes
    path.write_bytes(length.to_bytes(8, "little") + encoded + data)

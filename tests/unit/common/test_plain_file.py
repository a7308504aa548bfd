"""Whatever stands in the place of a file: it is told at once."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_serve_common.models import MAX_MANIFEST_BYTES, ManifestError, read_manifest
from mlx_serve_common.plain_file import read_plain


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 36)


def circle(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [folder, fifo, endless, listener, huge, circle])
def test_what_is_no_small_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "manifest.json")
    with pytest.raises(OSError) as caught:
        read_plain(tmp_path / "manifest.json", 1000)
    assert caught.value.strerror
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be read: \w"):
        read_manifest(tmp_path)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    content, status = read_plain(path, 1000)
    assert (content, status.st_size) == (b"x" * 1000, 1000)
    with pytest.raises(OSError) as caught:
        read_plain(path, 999)
    assert "larger than" in str(caught.value)
    assert MAX_MANIFEST_BYTES > 1 << 20

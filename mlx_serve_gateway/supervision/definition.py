"""The file that defines the service: there, whole, or not at all."""

import os
from pathlib import Path

from mlx_serve_gateway.supervision.tool import SupervisorFailed


def write(path: Path, content: bytes) -> None:
    """Replace the file in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        raise SupervisorFailed(f"{path} cannot be written: {error.strerror}") from None


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SupervisorFailed(f"{path} cannot be read: {error.strerror}") from None

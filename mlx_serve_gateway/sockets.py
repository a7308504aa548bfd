"""The run directory: what a killed gateway left in it is swept away, and none is left behind."""

import socket
from contextlib import suppress
from pathlib import Path


def sweep_dead(run_dir: Path) -> None:
    """Unlink every worker socket on which nobody listens; other gateways may share the folder."""
    for path in run_dir.glob("w-*.sock"):
        with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError):
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()


def leave(run_dir: Path) -> None:
    """Remove the folder, unless another gateway has sockets there; one that is about to have some
    makes it anew."""
    with suppress(OSError):
        run_dir.rmdir()

"""Sweeps the sockets that a killed gateway left in the run directory."""

import socket
from contextlib import suppress
from pathlib import Path


def sweep_dead_sockets(run_dir: Path) -> None:
    """Unlink every worker socket on which nobody listens; other gateways may share the folder."""
    for path in run_dir.glob("w-*.sock"):
        with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError):
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()

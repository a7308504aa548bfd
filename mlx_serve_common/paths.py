"""Where things are kept: the home folder, and a run directory short enough for sockets.

Invariants: the run directory belongs to us, is no link, and nobody else may enter it (0700): the
directory, not the socket's own mode, is what keeps other users away from a worker.
"""

import hashlib
import os
import stat
from pathlib import Path

# macOS allows 103 bytes in a socket address, Linux 107.
SOCKET_PATH_MAX = 103
_LONGEST_SOCKET_NAME = len("/w-0123456789abcdef.sock")


def home() -> Path:
    """``MLX_SERVE_HOME``, else ``~/.mlx-serve``; always absolute."""
    configured = os.environ.get("MLX_SERVE_HOME")
    return Path(configured or "~/.mlx-serve").expanduser().absolute()


def pid_file(home_dir: Path, port: int) -> Path:
    return home_dir / f"mlx-serve-{port}.pid"


def log_file(home_dir: Path, port: int) -> Path:
    return home_dir / "logs" / f"mlx-serve-{port}.log"


def private_directory(path: Path) -> Path:
    """Make ``path`` a directory of ours that nobody else can enter, or raise OSError saying why."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is not a directory (a link is not accepted)")
    if found.st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def run_directory(home_dir: Path) -> Path:
    """The folder for worker sockets: below the home, or a short one when that path is too long."""
    beside_home = home_dir / "run"
    if len(os.fsencode(beside_home)) + _LONGEST_SOCKET_NAME <= SOCKET_PATH_MAX:
        return private_directory(beside_home)
    # Never TMPDIR: it is long on macOS, and the system empties it.
    digest = hashlib.sha256(os.fsencode(home_dir)).hexdigest()[:8]
    return private_directory(Path(f"/tmp/mlxs-{os.getuid()}-{digest}"))

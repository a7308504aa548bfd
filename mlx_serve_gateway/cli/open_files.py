"""The limit of open files: every connection and every worker needs some."""

import resource

from mlx_serve_gateway.cli.announcement import Announcement, Tell

FEWEST_OPEN_FILES = 4096
_OPEN_FILES = 8192


def allow_open_files(tell: Tell) -> None:
    """Raise the limit of this process as far as is needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        wanted = soft
    if wanted < FEWEST_OPEN_FILES:
        message = (
            f"only {wanted} open files are allowed; connections beyond are refused (ulimit -n)"
        )
        tell(Announcement(kind="note", message=message))

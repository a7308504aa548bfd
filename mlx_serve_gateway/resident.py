"""How much memory a process has."""

import psutil


def resident_bytes(pid: int) -> int | None:
    """None if it is gone, or if there is no descriptor left to look with."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return None

"""Sizes, durations and moments in the few characters that a table has room for."""

from datetime import datetime

_STEPS_S = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def size_text(size_bytes: int | None) -> str:
    """``87 MB``, ``1.2 GB``: decimal units, as disks and downloads are labelled."""
    if size_bytes is None:
        return "-"
    if size_bytes < 1000:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    return f"{amount / 1000:.1f} TB"


def duration_text(seconds: float) -> str:
    """``3d 4h``, ``12m 3s``: the two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in _STEPS_S:
        count, left = divmod(left, length)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def age_text(then: str, now: datetime) -> str:
    """How long ago an ISO moment was; ``-`` for what is none."""
    try:
        moment = datetime.fromisoformat(then)
    except ValueError:
        return "-"
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=now.tzinfo)
    seconds = int((now - moment).total_seconds())
    if seconds < 60:
        return "just now"
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = seconds // length
        if count:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "-"

"""How long a model is to stay loaded, as Ollama's clients say it: ``keep_alive``.

A number counts seconds; a string is a duration of Go, such as ``1h30m``; whatever is negative means
for ever. Pure: text to seconds and back.
"""

import math
import re
from decimal import Decimal

from mlx_serve_common.errors import ErrorCode, ServeError

KeepAlive = float | str | None
"""As it stands in a request."""

_SECONDS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),  # the micro sign
    "μs": Decimal("1e-6"),  # the Greek letter
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_TERM = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST_TEXT = 64
# What Go's clock can count: 292 years.
_LONGEST_S = 2**63 / 10**9


def keep_alive_s(given: KeepAlive) -> float | None:
    """In seconds, infinite for ever; None leaves it to the server."""
    if given is None:
        return None
    seconds = _go_duration(given) if isinstance(given, str) else given
    return math.inf if seconds < 0 or seconds > _LONGEST_S else float(seconds)


def nanoseconds(seconds: float) -> int:
    return round(max(0.0, seconds) * 1e9)


def _go_duration(text: str) -> float:
    sign, rest = (text[:1], text[1:]) if text[:1] in ("-", "+") else ("", text)
    terms = list(_TERM.finditer(rest)) if len(rest) <= _LONGEST_TEXT else []
    if rest != "0" and (not terms or "".join(term[0] for term in terms) != rest):
        raise _invalid(text)
    seconds = float(sum(Decimal(term[1]) * _SECONDS[term[2]] for term in terms))
    if seconds > _LONGEST_S:
        raise _invalid(text)
    return -seconds if sign == "-" else seconds


def _invalid(text: str) -> ServeError:
    return ServeError(
        ErrorCode.INVALID_REQUEST,
        f"keep_alive: {text[:_LONGEST_TEXT]!r} is no duration; seconds as a number, "
        'or a text like "5m", "1h30m" or "-1m"',
        param="keep_alive",
    )

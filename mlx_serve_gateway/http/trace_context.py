"""The trace that a request belongs to, from W3C's ``traceparent`` header.

Invariants: 32 hexadecimal digits or nothing; what is not exactly as the standard has it is nothing,
and nothing of the header is ever sent back.
"""

import re
from collections.abc import Iterable

from mlx_serve_gateway.tracing import TraceParent

# version, trace, parent, flags; a version that is not ours may have more after them.
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LONGEST = 512


def trace_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    parent = trace_parent_of(headers)
    return None if parent is None else parent.trace


def trace_parent_of(headers: Iterable[tuple[bytes, bytes]]) -> TraceParent | None:
    given = [value for name, value in headers if name == b"traceparent"]
    # Two headers are nobody's in particular.
    if len(given) != 1 or len(given[0]) > _LONGEST:
        return None
    found = _TRACEPARENT.fullmatch(given[0].strip(b" \t"))
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if (version == b"00" and more) or not trace.strip(b"0") or not parent.strip(b"0"):
        return None
    return TraceParent(trace.decode(), parent.decode(), bool(int(flags, 16) & 1))

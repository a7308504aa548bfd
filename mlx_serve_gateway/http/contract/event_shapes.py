"""A line of /admin/events, as a type: an event, with its number and its time."""

from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, get_args

import msgspec

from mlx_serve_gateway.server_events import Event


def _line(kind: type[msgspec.Struct]) -> Any:
    return msgspec.defstruct(
        kind.__name__,
        [("number", int), ("at", datetime)],
        bases=(kind,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": kind.__doc__},
    )


EventLine: Any = reduce(or_, map(_line, get_args(Event)))

"""Of how many pieces a conversation may consist: they are read one by one, on the event loop.

The body's size does not bound that enough: eight megabytes are a hundred thousand messages, and
seconds in which nobody else is answered.
"""

from collections.abc import Iterable
from typing import Annotated, TypeVar

from msgspec import Meta

from mlx_serve_common.errors import ErrorCode, ServeError

T = TypeVar("T")

MOST_MESSAGES = 4096
MOST_TOOLS = 1024
MOST_PARTS = 8192
"""Parts of content and calls of tools, of all messages together."""

Messages = Annotated[list[T], Meta(max_length=MOST_MESSAGES)]
ToolList = Annotated[list[T], Meta(max_length=MOST_TOOLS)]


def check_parts(held: Iterable[object]) -> None:
    """What the messages hold; only lists count."""
    count = sum(len(each) for each in held if isinstance(each, list))
    if count > MOST_PARTS:
        raise ServeError(
            ErrorCode.INVALID_REQUEST,
            f"messages: {count} parts and calls are more than the {MOST_PARTS} allowed; join them",
            param="messages",
        )

"""What the configurations of encoders have in common: bounds for sizes, and how one is refused."""

from typing import Annotated, Any, TypeVar

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError

Size = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
InnerSize = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
Rows = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
Depth = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Epsilon = Annotated[float, msgspec.Meta(gt=0, le=1)]
Theta = Annotated[float, msgspec.Meta(gt=1, le=1e12)]

T = TypeVar("T")


def read(config: dict[str, Any], schema: type[T]) -> T:
    """The part of ``config.json`` that ``schema`` names."""
    try:
        return msgspec.convert(config, schema)
    except msgspec.ValidationError as error:
        raise unfit(f"{error}") from None


def head_size(width: int, heads: int) -> int:
    if width % heads:
        raise unfit(f"hidden_size {width} does not divide into {heads} heads")
    return width // heads


def unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"config.json: {message}")

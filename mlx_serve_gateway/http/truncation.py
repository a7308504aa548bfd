"""What a request wants done with inputs that are too long, in the words of several APIs."""

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Truncate

_WORDS: dict[str, Truncate] = {
    "none": "none",
    "left": "left",
    "start": "left",
    "right": "right",
    "end": "right",
}


def choose_truncation(asked: bool | str | None, default: Truncate) -> Truncate:
    """``true`` cuts as the server is set to cut (at the right if it is set to refuse)."""
    if asked is None:
        return default
    if asked is True:
        return "right" if default == "none" else default
    if asked is False:
        return "none"
    if chosen := _WORDS.get(asked.lower()):
        return chosen
    raise ServeError(
        ErrorCode.INVALID_REQUEST,
        "truncate: is one of true, false, right (END), left (START), none",
        param="truncate",
    )

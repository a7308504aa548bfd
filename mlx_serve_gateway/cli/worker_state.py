"""What a model's process is doing, in a few words for people. Pure."""

from mlx_serve_gateway.cli.gateway_client import LoadReport
from mlx_serve_gateway.cli.units import duration_text

_STILL_S = 10.0
"""A portion of the weights takes less, wherever they come from."""


def state_text(state: str, load: LoadReport | None) -> str:
    """``ready``, ``loading files``, ``loading 42%``, ``loading 42%, still for 31s``."""
    if state != "loading" or load is None:
        return state
    text = f"loading {load.stage if load.done is None else f'{100 * load.done:.0f}%'}"
    return f"{text}, still for {duration_text(load.still_s)}" if load.still_s >= _STILL_S else text

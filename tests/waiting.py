"""Waiting for what gives no event of its own."""

import asyncio
from collections.abc import Callable
from time import monotonic, sleep

_STEP_S = 0.005
_LIMIT_S = 60.0
"""No promise of the product, which tests of such give: as long as a crowded machine may take."""


def until(is_so: Callable[[], object], limit_s: float = _LIMIT_S, what: str = "it") -> None:
    deadline = monotonic() + limit_s
    while not is_so():
        assert monotonic() < deadline, f"{what} did not come to be within {limit_s:g} s"
        sleep(_STEP_S)


async def async_until(
    is_so: Callable[[], object], limit_s: float = _LIMIT_S, what: str = "it"
) -> None:
    deadline = monotonic() + limit_s
    while not is_so():
        assert monotonic() < deadline, f"{what} did not come to be within {limit_s:g} s"
        await asyncio.sleep(_STEP_S)

"""When a worker counts as stuck."""

import asyncio

from mlx_serve_gateway.progress import Progress
from tests.clock import FakeClock
from tests.waiting import async_until

DEADLINE_S = 0.02


async def test_no_progress_in_time_is_told(clock: FakeClock) -> None:
    stuck: list[None] = []
    progress = Progress(DEADLINE_S, clock, lambda: stuck.append(None))
    progress.sent(1)
    clock.advance(DEADLINE_S)
    await async_until(lambda: stuck)


async def test_a_time_in_which_we_stood_still_does_not_count(clock: FakeClock) -> None:
    """As after a machine's sleep: what the worker answered before it lies unread."""
    stuck: list[None] = []
    progress = Progress(DEADLINE_S, clock, lambda: stuck.append(None))
    progress.sent(1)
    clock.advance(3600)
    await asyncio.sleep(3 * DEADLINE_S)
    assert not stuck
    clock.advance(DEADLINE_S)
    await async_until(lambda: stuck)


async def test_nobody_waits_for_who_has_answered(clock: FakeClock) -> None:
    stuck: list[None] = []
    progress = Progress(DEADLINE_S, clock, lambda: stuck.append(None))
    progress.sent(1)
    progress.moved(1)
    clock.advance(DEADLINE_S)
    await asyncio.sleep(3 * DEADLINE_S)
    assert not stuck

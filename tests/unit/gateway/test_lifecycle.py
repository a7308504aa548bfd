"""Counting what is in flight, and waiting until nothing is."""

import asyncio

from mlx_serve_gateway.lifecycle import Lifecycle
from tests.clock import FakeClock


def test_knows_its_age_and_its_name(clock: FakeClock) -> None:
    lifecycle = Lifecycle("me", clock)
    clock.advance(12.5)

    assert lifecycle.uptime_s == 12.5
    assert lifecycle.instance == "me"
    assert not lifecycle.is_draining


async def test_an_idle_server_does_not_wait(clock: FakeClock) -> None:
    async with asyncio.timeout(10):
        await Lifecycle("me", clock).wait_idle()


async def test_waits_for_the_last_request(clock: FakeClock) -> None:
    lifecycle = Lifecycle("me", clock)
    lifecycle.enter()
    lifecycle.enter()
    idle = asyncio.ensure_future(lifecycle.wait_idle())

    lifecycle.leave()
    await asyncio.sleep(0)
    assert not idle.done()
    lifecycle.leave()
    async with asyncio.timeout(10):
        await idle
    assert lifecycle.in_flight == 0


async def test_a_later_request_is_waited_for_too(clock: FakeClock) -> None:
    lifecycle = Lifecycle("me", clock)
    lifecycle.enter()
    lifecycle.leave()
    lifecycle.enter()
    idle = asyncio.ensure_future(lifecycle.wait_idle())

    await asyncio.sleep(0)
    assert not idle.done()
    lifecycle.leave()
    await idle

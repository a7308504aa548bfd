"""Events are kept for a while, in order, and told to whoever watches."""

import asyncio

from mlx_serve_gateway.event_log import EventLog, Told
from mlx_serve_gateway.server_events import Draining, JobStarted


def told(number: int) -> JobStarted:
    return JobStarted(model=str(number), job="pull")


async def take(log: EventLog, after: int, count: int) -> list[Told]:
    watching = log.watch(after)
    found = [await anext(watching) for _ in range(count)]
    await watching.aclose()
    return found


async def test_a_watcher_hears_what_was_and_what_comes() -> None:
    log = EventLog()
    log.tell(told(1))
    watching = asyncio.ensure_future(take(log, 0, 3))
    await asyncio.sleep(0)
    log.tell(told(2))
    log.tell(Draining())
    heard = await watching
    assert [each.number for each in heard] == [1, 2, 3]
    assert [each.what for each in heard] == [told(1), told(2), Draining()]
    assert heard[0].at <= heard[1].at


async def test_watching_goes_on_where_it_was_left() -> None:
    log = EventLog()
    for number in range(5):
        log.tell(told(number))
    assert [each.number for each in await take(log, 3, 2)] == [4, 5]


async def test_what_is_too_long_ago_is_forgotten_and_seen_to_be() -> None:
    log = EventLog()
    for number in range(1000):
        log.tell(told(number))
    kept = log.since(0)
    assert len(kept) < 1000
    assert kept[-1].number == 1000
    assert kept[0].number > 1


async def test_watching_ends_when_all_is_told() -> None:
    log = EventLog()
    log.tell(told(1))
    watching = log.watch(0)
    assert (await anext(watching)).number == 1
    log.tell(Draining())
    log.end()
    assert [each.what async for each in watching] == [Draining()]
    assert [each.number async for each in log.watch(0)] == [1, 2]

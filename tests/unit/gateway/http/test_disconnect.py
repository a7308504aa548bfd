"""Work ends with its client."""

import asyncio

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.presence import Presence
from tests.unit.gateway.http.asgi import http_scope


class Work:
    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.outcome = "never started"

    async def run(self) -> None:
        self.outcome = "running"
        try:
            await self.may_end.wait()
            self.outcome = "done"
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise


async def test_work_whose_client_stays_is_done() -> None:
    work = Work()
    work.may_end.set()
    await unless_gone(http_scope(), work.run())

    assert work.outcome == "done"


async def test_a_client_that_leaves_ends_its_work() -> None:
    work, scope = Work(), http_scope()
    waiting = asyncio.ensure_future(unless_gone(scope, work.run()))
    await asyncio.sleep(0)
    assert work.outcome == "running"
    Presence.of(scope).leave()

    with pytest.raises(ServeError) as raised:
        await waiting
    assert raised.value.code is ErrorCode.CANCELLED
    assert work.outcome == "cancelled"


async def test_a_client_that_has_left_before_ends_its_work() -> None:
    work, scope = Work(), http_scope()
    Presence.of(scope).leave()

    with pytest.raises(ServeError) as raised:
        async with asyncio.timeout(5):
            await unless_gone(scope, work.run())
    assert raised.value.code is ErrorCode.CANCELLED
    assert work.outcome == "cancelled"


async def test_an_answer_that_came_at_the_same_moment_is_not_lost() -> None:
    work, scope = Work(), http_scope()
    work.may_end.set()
    Presence.of(scope).leave()
    await unless_gone(scope, work.run())
    await asyncio.sleep(0)

    assert work.outcome == "done"


async def test_what_the_work_raises_is_raised() -> None:
    async def failing() -> None:
        raise ServeError(ErrorCode.QUEUE_FULL, "full")

    with pytest.raises(ServeError) as raised:
        await unless_gone(http_scope(), failing())
    assert raised.value.code is ErrorCode.QUEUE_FULL


async def test_cancelling_the_handler_cancels_the_work() -> None:
    work = Work()
    waiting = asyncio.ensure_future(unless_gone(http_scope(), work.run()))
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.outcome == "cancelled"


async def test_a_stop_at_the_same_moment_is_no_disconnect() -> None:
    work, scope = Work(), http_scope()
    waiting = asyncio.ensure_future(unless_gone(scope, work.run()))
    await asyncio.sleep(0)
    Presence.of(scope).leave()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_work_that_notices_it_itself_and_is_done_stays_done() -> None:
    scope = http_scope()

    async def last_words() -> None:
        Presence.of(scope).leave()

    async def answer() -> str:
        await unless_gone(scope, last_words())
        await asyncio.sleep(0)
        return "sent"

    assert await asyncio.ensure_future(answer()) == "sent"


async def test_who_leaves_after_the_answer_disturbs_nobody() -> None:
    work, scope = Work(), http_scope()
    work.may_end.set()

    async def answer() -> str:
        await unless_gone(scope, work.run())
        Presence.of(scope).leave()
        await asyncio.sleep(0)
        return "sent"

    assert await asyncio.ensure_future(answer()) == "sent"

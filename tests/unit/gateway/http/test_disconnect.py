"""Work ends with its client."""

import asyncio

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.disconnect import unless_gone
from tests.unit.gateway.http.asgi import Client


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


def client() -> Client:
    present = Client()
    present._messages.clear()
    return present


async def test_work_whose_client_stays_is_done() -> None:
    work = Work()
    work.may_end.set()
    await unless_gone(client().receive, work.run())

    assert work.outcome == "done"


async def test_a_client_that_leaves_ends_its_work() -> None:
    work, leaving = Work(), client()
    waiting = asyncio.ensure_future(unless_gone(leaving.receive, work.run()))
    await asyncio.sleep(0.001)
    assert work.outcome == "running"
    leaving.leave()

    with pytest.raises(ServeError) as raised:
        await waiting
    assert raised.value.code is ErrorCode.CANCELLED
    assert work.outcome == "cancelled"


async def test_an_answer_that_came_at_the_same_moment_is_not_lost() -> None:
    work, leaving = Work(), client()
    work.may_end.set()
    leaving.leave()
    await unless_gone(leaving.receive, work.run())

    assert work.outcome == "done"


async def test_what_the_work_raises_is_raised() -> None:
    async def failing() -> None:
        raise ServeError(ErrorCode.QUEUE_FULL, "full")

    with pytest.raises(ServeError) as raised:
        await unless_gone(client().receive, failing())
    assert raised.value.code is ErrorCode.QUEUE_FULL


async def test_cancelling_the_handler_cancels_the_work() -> None:
    work = Work()
    waiting = asyncio.ensure_future(unless_gone(client().receive, work.run()))
    await asyncio.sleep(0.001)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.outcome == "cancelled"


async def test_nobody_listens_for_a_client_that_was_answered() -> None:
    work, staying = Work(), client()
    work.may_end.set()
    before = asyncio.all_tasks()
    await unless_gone(staying.receive, work.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before


async def test_other_messages_do_not_end_the_work() -> None:
    work = Work()
    chatty = Client(b"late", b"later")
    waiting = asyncio.ensure_future(unless_gone(chatty.receive, work.run()))
    await asyncio.sleep(0.001)
    assert not waiting.done()
    work.may_end.set()
    await waiting

    assert work.outcome == "done"

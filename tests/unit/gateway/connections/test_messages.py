"""What an application is told: all of a body, or that it is over; never nothing."""

import asyncio

from starlette.types import Message

from mlx_serve_gateway.connections.requests import Messages

OVER: Message = {"type": "http.disconnect"}


def part(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": True}


async def test_messages_come_in_their_order() -> None:
    messages = Messages(3)
    for each in (part(b"a"), part(b"b")):
        await messages.put(each)

    assert [await messages.get(), await messages.get()] == [part(b"a"), part(b"b")]


async def test_a_body_that_nobody_reads_holds_its_sender_up() -> None:
    messages = Messages(1)
    await messages.put(part(b"a"))
    second = asyncio.ensure_future(messages.put(part(b"b")))
    await asyncio.sleep(0)
    assert not second.done()

    await messages.get()
    await second


async def test_the_end_is_told_although_nobody_has_read_the_body() -> None:
    messages = Messages(1)
    await messages.put(part(b"a"))
    second = asyncio.ensure_future(messages.put(part(b"b")))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await messages.put(OVER)
        assert await messages.get() == OVER
        await second

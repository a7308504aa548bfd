"""Answers that are heard while they are said: in order, once, and to their end."""

import asyncio

import pytest

from mlx_serve_common.chat import Delta, Finish, Plain, Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Generate
from mlx_serve_gateway.generate_call import GenerateCall, Said

FINISH = Finish("stop", None, 1, 0, 3, 0, 0.0, 0.0)
PATIENCE_S = 60.0


def call(choices: int = 1) -> GenerateCall:
    made = GenerateCall(Plain("hello"), Sampling(), choices)
    made.first_id = 10
    return made


async def heard(call: GenerateCall) -> list[Said]:
    return [said async for pieces in call.hear_all(PATIENCE_S) for said in pieces]


async def test_what_is_said_is_heard_in_order() -> None:
    one = call()
    listener = asyncio.ensure_future(heard(one))
    for word in ("a", "b"):
        one.hear(10, Delta(word))
        await asyncio.sleep(0)
    one.hear(10, Delta("c", finish=FINISH))
    assert [said.delta.text for said in await listener] == ["a", "b", "c"]
    assert one.remaining == 0


async def test_what_was_said_before_anybody_listens_is_heard() -> None:
    one = call()
    one.hear(10, Delta("a"))
    one.hear(10, Delta("b", finish=FINISH))
    assert [said.delta.text for said in await heard(one)] == ["a", "b"]


async def test_a_slow_listener_gets_it_all_at_once() -> None:
    one = call()
    pieces = one.hear_all(PATIENCE_S)
    one.hear(10, Delta("a"))
    assert len(await anext(pieces)) == 1
    for word in "bcd":
        one.hear(10, Delta(word))
    assert len(await anext(pieces)) == 3
    await pieces.aclose()


async def test_it_ends_with_the_last_of_several_answers() -> None:
    pair = call(2)
    listener = asyncio.ensure_future(heard(pair))
    pair.hear(11, Delta("b", finish=FINISH))
    await asyncio.sleep(0)
    assert not pair.done.done()
    pair.hear(10, Delta("a", finish=FINISH))
    assert [said.choice for said in await listener] == [1, 0]


async def test_silence_is_told() -> None:
    one = call()
    pieces = one.hear_all(0.001)
    assert await anext(pieces) == []
    one.hear(10, Delta("a"))
    assert len(await anext(pieces)) == 1
    assert await anext(pieces) == []
    await pieces.aclose()


async def test_a_word_that_breaks_a_silence_begins_another() -> None:
    one = call()
    pieces = one.hear_all(0.01)
    first = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    one.hear(10, Delta("a"))
    assert len(await first) == 1
    assert await anext(pieces) == []
    await pieces.aclose()


@pytest.mark.parametrize("listens", [True, False], ids=["listening", "later"])
async def test_a_failure_comes_after_what_was_said(listens: bool) -> None:
    one = call()
    words: list[str] = []

    async def listen() -> None:
        async for pieces in one.hear_all(PATIENCE_S):
            words.extend(said.delta.text for said in pieces)

    listener = asyncio.ensure_future(listen())
    if listens:
        await asyncio.sleep(0)
    one.hear(10, Delta("a"))
    one.fail(ServeError(ErrorCode.MODEL_UNAVAILABLE, "gone"))
    with pytest.raises(ServeError, match="gone"):
        await listener
    assert words == ["a"]


async def test_a_failure_that_nobody_asks_about_is_no_complaint() -> None:
    one = call()
    one.fail(ServeError(ErrorCode.MODEL_UNAVAILABLE, "gone"))
    await asyncio.sleep(0)
    # An exception that was never looked at would be a warning here, and warnings are errors.
    del one


def test_choices_are_numbered_from_the_first_id() -> None:
    async def parts() -> object:
        return call(3).part([11, 12])

    part = asyncio.run(parts())
    assert isinstance(part, Generate)
    assert (part.ids, part.choices) == ([11, 12], [1, 2])


async def test_the_same_question_is_recognised() -> None:
    assert call().fingerprint(0) == call().fingerprint(0)
    other = GenerateCall(Plain("hello"), Sampling(seed=1))
    assert other.fingerprint(0) != call().fingerprint(0)

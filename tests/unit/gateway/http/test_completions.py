"""/v1/completions: texts and token ids that are continued as they stand."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from mlx_serve_common.chat import Delta, LikelyToken, Plain, SaidToken, TokenIds
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Generate
from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.answering import Heard
from mlx_serve_gateway.http.hearing_together import HearingTogether
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import BARE, finish
from tests.unit.gateway.http.computing import Gateway, Reply
from tests.unit.gateway.http.event_streams import chunks, failed_chunks

OTHER = LikelyToken("x", b"x", -2.0)
TOKENS = [SaidToken(LikelyToken(text, text.encode(), -0.5), [OTHER]) for text in ("한국 ", "two")]


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    # Continuing a text needs no template.
    store.add("m", ModelKind.CHAT, chat=BARE)
    gateway = Gateway(store)
    gateway.pool.says = [Delta("한국 "), Delta("two"), Delta(finish=finish(reason="length"))]
    return gateway


async def create(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/completions", {"model": "m", "prompt": "a"} | body)


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("hi", [Plain("hi")]),
        (["hi", "you"], [Plain("hi"), Plain("you")]),
        ([1, 2], [TokenIds([1, 2])]),
        ([[1], [2, 3]], [TokenIds([1]), TokenIds([2, 3])]),
    ],
)
async def test_prompts(gateway: Gateway, given: Any, prompts: list[Any]) -> None:
    reply = await create(gateway, prompt=given)
    assert reply.status == 200, reply
    parts = gateway.pool.parts
    assert [part.prompt for part in parts if isinstance(part, Generate)] == prompts
    assert [choice["index"] for choice in reply.json["choices"]] == list(range(len(prompts)))


async def test_an_answer(gateway: Gateway) -> None:
    told = (await create(gateway)).json
    assert told["id"].startswith("cmpl-")
    assert told["object"] == "text_completion"
    assert told["choices"] == [
        {"index": 0, "text": "한국 two", "logprobs": None, "finish_reason": "length"}
    ]
    assert told["usage"]["total_tokens"] == 8


@pytest.mark.parametrize(("given", "most"), [({}, 16), ({"max_tokens": 3}, 3)])
async def test_it_is_short_unless_asked(gateway: Gateway, given: Any, most: int) -> None:
    await create(gateway, **given)
    assert gateway.pool.part.sampling.max_tokens == most


async def test_answers_of_several_prompts_stand_in_their_order(gateway: Gateway) -> None:
    told = (await create(gateway, prompt=["a", "b"], n=2)).json
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    # Each prompt counts once.
    assert told["usage"]["prompt_tokens"] == 10
    assert told["usage"]["completion_tokens"] == 12
    assert told["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


async def test_likelihoods(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("한국 two", tokens=TOKENS, finish=finish())]
    (choice,) = (await create(gateway, logprobs=1)).json["choices"]
    assert gateway.pool.part.sampling.top_logprobs == 1
    assert choice["logprobs"] == {
        "tokens": ["한국 ", "two"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"x": -2.0, "한국 ": -0.5}, {"x": -2.0, "two": -0.5}],
        "text_offset": [0, 3],
    }


async def test_a_stream(gateway: Gateway) -> None:
    gateway.pool.says = [
        Delta("한국 ", tokens=TOKENS[:1]),
        Delta("two", tokens=TOKENS[1:]),
        Delta(finish=finish()),
    ]
    told = chunks(
        await create(gateway, stream=True, logprobs=0, stream_options={"include_usage": True})
    )
    *said, last = told
    choices = [chunk["choices"][0] for chunk in said]
    assert [choice["text"] for choice in choices] == ["한국 ", "two", ""]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    assert [choice["logprobs"]["text_offset"] for choice in choices[:2]] == [[0], [3]]
    assert {chunk["object"] for chunk in told} == {"text_completion"}
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 8)


async def test_a_stream_of_several_prompts(gateway: Gateway) -> None:
    told = chunks(await create(gateway, prompt=["a", "b"], stream=True))
    texts = ["", ""]
    for chunk in told:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == ["한국 two"] * 2


async def test_a_failure_in_the_middle_ends_the_stream(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("one ")]
    gateway.pool.refusal = ServeError(ErrorCode.WORKER_CRASHED, "it died")
    *_, last = failed_chunks(await create(gateway, prompt=["a", "b"], stream=True))
    assert last["error"]["code"] == "worker_crashed"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": ""}, "prompt", "empty_input"),
        ({"prompt": ["a", ""]}, "prompt", "empty_input"),
        ({"prompt": []}, "prompt", "empty_input"),
        ({"prompt": [[]]}, "prompt", "empty_input"),
        ({"prompt": ["a", 1]}, "prompt", "invalid_request"),
        ({"prompt": [-1]}, "prompt", "invalid_request"),
        ({"prompt": None}, "prompt", "invalid_request"),
        ({"prompt": ["a"] * 65}, "prompt", "too_many_inputs"),
        ({"echo": True}, "echo", "unsupported_parameter"),
        ({"suffix": "x"}, "suffix", "unsupported_parameter"),
        ({"best_of": 3}, "best_of", "unsupported_parameter"),
        ({"logprobs": 21}, "logprobs", "invalid_request"),
        ({"n": 9}, "n", "invalid_request"),
    ],
)
async def test_refusals(gateway: Gateway, body: dict[str, Any], param: str, code: str) -> None:
    reply = await create(gateway, **body)
    assert (reply.status, reply.code, reply.param) == (400, code, param)
    assert gateway.pool.parts == []


# --- several calls heard as one ------------------------------------------------------------------


class Speaker(Heard):
    """Says these words, and waits for ever where one is None."""

    size = 2

    def __init__(self, *words: str | None) -> None:
        self._words = words
        self.has_ended = False

    async def pieces(self) -> AsyncGenerator[list[Said]]:
        try:
            for word in self._words:
                if word is None:
                    await asyncio.Event().wait()
                yield [Said(1, Delta(str(word)))]
        finally:
            self.has_ended = True


async def test_choices_are_numbered_through() -> None:
    together = HearingTogether([Speaker("a"), Speaker("b")])
    heard = [said async for pieces in together.pieces() for said in pieces]
    assert together.size == 4
    assert sorted(heard) == [Said(1, Delta("a")), Said(3, Delta("b"))]


async def test_who_stops_listening_stops_them_all() -> None:
    speakers = [Speaker("a", None), Speaker(None)]
    async with aclosing(HearingTogether(speakers).pieces()) as pieces:
        await anext(pieces)
    assert all(speaker.has_ended for speaker in speakers)

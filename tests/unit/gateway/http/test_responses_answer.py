"""/v1/responses: the answer, whole and as events."""

import re
from typing import Any

import pytest

from mlx_serve_common.chat import Delta, LikelyToken, SaidToken, ToolCall
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import ABLE, finish
from tests.unit.gateway.http.computing import Gateway, Reply
from tests.unit.gateway.http.event_streams import events

TOKEN = SaidToken(LikelyToken("one", b"one", -0.5), [LikelyToken("a", b"a", -1.5)])
LIKELY = {
    "token": "one", "logprob": -0.5, "bytes": list(b"one"),
    "top_logprobs": [{"token": "a", "logprob": -1.5, "bytes": [97]}],
}  # fmt: skip
CALLS = [ToolCall("f", '{"a": 1}'), ToolCall("g", "{}")]
CALLED = finish(reason="tool_calls", reasoning_tokens=1)


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m", ModelKind.CHAT, chat=ABLE)
    gateway = Gateway(store)
    gateway.pool.says = [Delta("one "), Delta("two"), Delta(finish=finish())]
    return gateway


async def create(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/responses", {"model": "m", "input": "hi"} | body)


async def told(gateway: Gateway, stream: bool, **body: Any) -> Any:
    """The response, whichever way it comes."""
    reply = await create(gateway, stream=stream, **body)
    assert reply.status == 200, reply
    return events(reply)[-1]["response"] if stream else reply.json


def without_ids(item: Any) -> Any:
    match item:
        case dict():
            return {
                name: without_ids(value)
                for name, value in item.items()
                if name not in ("id", "item_id", "call_id", "created_at", "sequence_number")
            }
        case list():
            return [without_ids(each) for each in item]
        case _:
            return item


def message(text: str, status: str = "completed", logprobs: Any = ()) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": [*logprobs]}
    return {"type": "message", "status": status, "role": "assistant", "content": [part]}


def thought(text: str) -> dict[str, Any]:
    part = {"type": "summary_text", "text": text}
    return {"type": "reasoning", "status": "completed", "summary": [part]}


def call(name: str, arguments: str) -> dict[str, Any]:
    kind = "function_call"
    return {"type": kind, "name": name, "arguments": arguments, "status": "completed"}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response(gateway: Gateway, stream: bool) -> None:
    response = await told(gateway, stream, instructions="be", metadata={"a": "b"}, temperature=0.5)

    assert response["id"].startswith("resp_")
    assert response["output"][0]["id"].startswith("msg_")
    assert without_ids(response) == {
        "object": "response", "status": "completed", "background": False, "error": None,
        "incomplete_details": None, "instructions": "be", "max_output_tokens": None,
        "metadata": {"a": "b"}, "model": "m", "output": [message("one two")],
        "parallel_tool_calls": True, "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None}, "store": False, "temperature": 0.5,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "top_logprobs": 0, "top_p": None, "truncation": "disabled",
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 8,
        },
    }  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
async def test_thoughts_and_calls_are_items(gateway: Gateway, stream: bool) -> None:
    gateway.pool.says = [
        Delta(reasoning="h"),
        Delta(reasoning="m"),
        Delta("so"),
        Delta(calls=CALLS, finish=CALLED),
    ]
    response = await told(gateway, stream)
    items = response["output"]

    assert without_ids(items) == [
        thought("hm"),
        message("so"),
        call("f", '{"a": 1}'),
        call("g", "{}"),
    ]
    assert len({item["id"] for item in items}) == 4
    assert all(re.fullmatch("[0-9a-z]{9}", item["call_id"]) for item in items[2:])
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_needs_no_message(gateway: Gateway, stream: bool) -> None:
    gateway.pool.says = [Delta(calls=CALLS[:1], finish=CALLED)]
    assert without_ids((await told(gateway, stream))["output"]) == [call("f", '{"a": 1}')]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_cut(gateway: Gateway, stream: bool) -> None:
    gateway.pool.says = [Delta("one", finish=finish(reason="length"))]
    response = await told(gateway, stream)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert without_ids(response["output"]) == [message("one", "incomplete")]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_cut_in_its_thoughts_has_an_empty_message(
    gateway: Gateway, stream: bool
) -> None:
    gateway.pool.says = [Delta(reasoning="hm", finish=finish(reason="length"))]
    output = (await told(gateway, stream))["output"]
    assert without_ids(output) == [thought("hm"), message("", "incomplete")]


@pytest.mark.parametrize("stream", [True, False])
async def test_likelihoods(gateway: Gateway, stream: bool) -> None:
    gateway.pool.says = [Delta("one", tokens=[TOKEN], finish=finish())]
    output = (await told(gateway, stream, top_logprobs=1))["output"]
    assert without_ids(output) == [message("one", logprobs=[LIKELY])]


async def test_the_events_of_a_text(gateway: Gateway) -> None:
    seen = events(await create(gateway, stream=True))

    assert [event["type"].removeprefix("response.") for event in seen] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    created, last = seen[0]["response"], seen[-1]["response"]
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    assert created["id"] == last["id"]
    places = [event for event in seen if "item_id" in event]
    assert {event["item_id"] for event in places} == {last["output"][0]["id"]}
    assert {(event["output_index"], event["content_index"]) for event in places} == {(0, 0)}
    assert [event["delta"] for event in seen if "delta" in event] == ["one ", "two"]
    assert seen[6]["text"] == seen[7]["part"]["text"] == "one two"


async def test_the_events_of_thoughts_and_calls(gateway: Gateway) -> None:
    gateway.pool.says = [Delta(reasoning="hm"), Delta(calls=CALLS[:1], finish=CALLED)]
    seen = events(await create(gateway, stream=True))
    kinds = [event["type"].removeprefix("response.") for event in seen]

    assert kinds[2:-1] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done",
    ]  # fmt: skip
    begun, delta, done, ended = seen[8:12]
    assert (begun["item"]["arguments"], begun["item"]["status"]) == ("", "in_progress")
    assert delta["delta"] == done["arguments"] == ended["item"]["arguments"] == '{"a": 1}'
    assert begun["item"]["id"] == delta["item_id"] == ended["item"]["id"]
    assert [event["output_index"] for event in seen if "output_index" in event] == [0] * 6 + [1] * 4


async def test_a_failure_in_the_middle_is_an_event(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("one ")]
    gateway.pool.refusal = ServeError(ErrorCode.WORKER_CRASHED, "it died")
    last = events(await create(gateway, stream=True))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "worker_crashed", "message": "it died"}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_word_is_an_http_error(
    gateway: Gateway, stream: bool
) -> None:
    gateway.pool.says = []
    gateway.pool.refusal = ServeError(ErrorCode.QUEUE_FULL, "later", retry_after_s=1)
    reply = await create(gateway, stream=stream)
    assert (reply.status, reply.code) == (429, "queue_full")

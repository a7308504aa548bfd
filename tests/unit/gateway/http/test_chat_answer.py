"""/v1/chat/completions: the answer, whole and in chunks, as OpenAI's clients read it."""

import re
from typing import Any

import pytest

from mlx_serve_common.chat import Delta, LikelyToken, SaidToken, ToolCall
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.http.chat_answer import ChatChunks
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import ABLE, TOOL, finish
from tests.unit.gateway.http.computing import Gateway, Reply
from tests.unit.gateway.http.event_streams import chunks, failed_chunks

HI = [{"role": "user", "content": "hi"}]
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
HALF, REST = "한".encode()[:1], "한".encode()[1:]
TOKENS = [
    SaidToken(LikelyToken("\ufffd", HALF, -0.5), [LikelyToken("a", b"a", -1.5)]),
    SaidToken(LikelyToken("\ufffd", REST, -0.25)),
]
LOGPROBS = [
    {
        "token": "\ufffd", "logprob": -0.5, "bytes": list(HALF),
        "top_logprobs": [{"token": "a", "logprob": -1.5, "bytes": [97]}],
    },
    {"token": "\ufffd", "logprob": -0.25, "bytes": list(REST), "top_logprobs": []},
]  # fmt: skip


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m", ModelKind.CHAT, source="org/M", chat=ABLE)
    gateway = Gateway(store)
    gateway.pool.says = [Delta("one "), Delta("two"), Delta(finish=finish())]
    return gateway


async def create(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/chat/completions", {"model": "m", "messages": HI} | body)


def deltas(told: list[Any], choice: int = 0) -> list[dict[str, Any]]:
    found = [each for chunk in told for each in chunk["choices"] if each["index"] == choice]
    return [each["delta"] for each in found]


# --- whole ---------------------------------------------------------------------------------------


async def test_an_answer(gateway: Gateway) -> None:
    told = (await create(gateway, model="org/M")).json

    assert re.fullmatch("chatcmpl-[0-9a-f]{24}", told.pop("id"))
    assert re.fullmatch("fp_[0-9a-f]{10}", told.pop("system_fingerprint"))
    assert told.pop("created") > 1_700_000_000
    message = {"role": "assistant", "content": "one two", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    assert told == {
        "object": "chat.completion",
        # The one that answered, however it was called.
        "model": "m",
        "choices": [choice],
        "usage": USAGE,
    }


async def test_calls_and_thoughts(gateway: Gateway) -> None:
    calls = [ToolCall("f", '{"a": 1}'), ToolCall("f", "{}")]
    gateway.pool.says = [Delta(reasoning="hm", calls=calls, finish=finish(reason="tool_calls"))]
    (choice,) = (await create(gateway, tools=[TOOL])).json["choices"]
    message = choice["message"]
    first, second = message["tool_calls"]

    assert choice["finish_reason"] == "tool_calls"
    assert message["content"] is None
    assert message["reasoning_content"] == message["reasoning"] == "hm"
    assert first["id"] != second["id"]
    # Templates of Mistral's take no other, and it comes back in the next request.
    assert all(re.fullmatch("[0-9a-z]{9}", call["id"]) for call in (first, second))
    assert first["type"] == "function"
    assert first["function"] == {"name": "f", "arguments": '{"a": 1}'}


async def test_text_beside_a_call(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("t", calls=[ToolCall("f", "{}")], finish=finish())]
    (choice,) = (await create(gateway)).json["choices"]
    assert choice["message"]["content"] == "t"


async def test_saying_nothing_is_a_text(gateway: Gateway) -> None:
    gateway.pool.says = [Delta(reasoning="hm", finish=finish(reason="length"))]
    (choice,) = (await create(gateway)).json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
    assert "tool_calls" not in choice["message"]


async def test_likelihoods(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("한", tokens=TOKENS, finish=finish())]
    (choice,) = (await create(gateway, logprobs=True, top_logprobs=1)).json["choices"]
    assert choice["logprobs"] == {"content": LOGPROBS, "refusal": None}


async def test_several_answers_count_their_prompt_once(gateway: Gateway) -> None:
    told = (await create(gateway, n=3)).json
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2]
    usage = told["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 9, 14)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2


# --- in chunks -----------------------------------------------------------------------------------


async def test_a_stream(gateway: Gateway) -> None:
    told = chunks(await create(gateway, stream=True))

    assert deltas(told) == [
        {"role": "assistant", "content": ""},
        {"content": "one "},
        {"content": "two"},
        {},
    ]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in told]
    assert reasons == [None, None, None, "stop"]
    for name in ("id", "created", "model", "system_fingerprint"):
        assert len({chunk[name] for chunk in told}) == 1
    assert {chunk["object"] for chunk in told} == {"chat.completion.chunk"}
    assert not any("usage" in chunk for chunk in told)


async def test_what_it_cost_comes_last_if_it_was_asked(gateway: Gateway) -> None:
    told = chunks(await create(gateway, stream=True, stream_options={"include_usage": True}))
    *others, last = told
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert all(chunk["choices"] and "usage" not in chunk for chunk in others)


async def test_streamed_calls_and_thoughts(gateway: Gateway) -> None:
    gateway.pool.says = [
        Delta(reasoning="h"),
        Delta(reasoning="m"),
        Delta(calls=[ToolCall("f", '{"a": 1}'), ToolCall("g", "{}")]),
        Delta(calls=[ToolCall("f", "{}")], finish=finish(reason="tool_calls")),
    ]
    told = deltas(chunks(await create(gateway, stream=True, tools=[TOOL])))

    assert "".join(delta.get("reasoning_content", "") for delta in told) == "hm"
    calls = [call for delta in told for call in delta.get("tool_calls", [])]
    assert [(call["index"], call["function"]["name"]) for call in calls] == [
        (0, "f"),
        (1, "g"),
        (2, "f"),
    ]
    assert len({call["id"] for call in calls}) == 3
    assert {call["type"] for call in calls} == {"function"}


async def test_streamed_likelihoods(gateway: Gateway) -> None:
    gateway.pool.says = [Delta(tokens=TOKENS[:1]), Delta("한", tokens=TOKENS[1:], finish=finish())]
    told = chunks(await create(gateway, stream=True, logprobs=True, top_logprobs=1))
    likely = [chunk["choices"][0]["logprobs"] for chunk in told]
    assert [each and each["content"] for each in likely] == [None, LOGPROBS[:1], LOGPROBS[1:], None]


async def test_every_streamed_answer_begins_and_ends_once(gateway: Gateway) -> None:
    told = chunks(await create(gateway, stream=True, n=2, stream_options={"include_usage": True}))
    for choice in (0, 1):
        said = deltas(told, choice)
        assert [delta for delta in said if "role" in delta] == said[:1]
        assert "".join(delta.get("content", "") for delta in said) == "one two"
        assert [delta for delta in said if not delta] == said[-1:]
    assert told[-1]["usage"]["completion_tokens"] == 6


async def test_a_failure_in_the_middle_ends_the_stream(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("one ")]
    gateway.pool.refusal = ServeError(ErrorCode.WORKER_CRASHED, "it died")
    *said, last = failed_chunks(await create(gateway, stream=True))
    assert deltas(said)[-1] == {"content": "one "}
    assert (last["error"]["code"], last["error"]["message"]) == ("worker_crashed", "it died")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_word_is_an_http_error(
    gateway: Gateway, stream: bool
) -> None:
    gateway.pool.says = []
    gateway.pool.refusal = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "9 are more than 8")
    reply = await create(gateway, stream=stream)
    assert (reply.status, reply.code) == (400, "context_length_exceeded")


def test_silence_is_a_comment(store: ModelStore) -> None:
    model = store.add("m", ModelKind.CHAT)
    silence = ChatChunks(model, 1, is_likely=False, wants_usage=False).silence()
    assert silence.startswith(b":")
    assert silence.endswith(b"\n\n")

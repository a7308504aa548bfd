"""/v1/messages: what is asked of the model, and its answer whole and as Anthropic's events."""

import math
import re
from typing import Any

import msgspec
import pytest

from mlx_serve_common.chat import Conversation, Delta, Sampling, ToolCall
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import TokenizeConversation
from mlx_serve_gateway.http.anthropic_stream import AnthropicEvents
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import ABLE, SIMPLE, finish
from tests.unit.gateway.http.computing import Gateway, Reply

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"name": name, "description": "d", "input_schema": SCHEMA} for name in ("f", "g")]


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m", ModelKind.CHAT, chat=ABLE)
    store.add("simple", ModelKind.CHAT, chat=SIMPLE)
    gateway = Gateway(store)
    gateway.pool.says = [Delta("one "), Delta("two"), Delta(finish=finish())]
    return gateway


async def create(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post(
        "/v1/messages", {"model": "m", "max_tokens": 9, "messages": HI} | body
    )


async def asked(gateway: Gateway, **body: Any) -> Conversation:
    reply = await create(gateway, **body)
    assert reply.status == 200, reply
    prompt = gateway.pool.parts.pop().prompt  # type: ignore[union-attr]
    assert isinstance(prompt, Conversation)
    return prompt


def events(reply: Reply) -> list[dict[str, Any]]:
    """Each of them, checked to be named as it is typed."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = []
    for event in reply.body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        content = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {content['type']}"
        found.append(content)
    return found


# --- whole answers -------------------------------------------------------------------------------


async def test_a_message(gateway: Gateway) -> None:
    told = (await create(gateway)).json

    assert told.pop("id").startswith("msg_")
    assert told == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "one two"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2,
            "output_tokens": 3,
        },
    }


async def test_thoughts_text_and_calls_are_blocks(gateway: Gateway) -> None:
    calls = [ToolCall("f", '{"a": 1}'), ToolCall("g", "{}")]
    gateway.pool.says = [
        Delta("t", reasoning="hm"),
        Delta(calls=calls, finish=finish(reason="tool_calls")),
    ]
    told = (await create(gateway, tools=TOOLS)).json
    thoughts, text, first, second = told["content"]

    assert thoughts["thinking"] == "hm"
    assert thoughts["signature"]
    assert text == {"type": "text", "text": "t"}
    ids = [first.pop("id"), second.pop("id")]
    assert ids[0] != ids[1]
    # Templates of Mistral's take no other, and it comes back in the next request.
    assert all(re.fullmatch("[0-9a-z]{9}", id) for id in ids)
    assert first == {"type": "tool_use", "name": "f", "input": {"a": 1}}
    assert second == {"type": "tool_use", "name": "g", "input": {}}
    assert told["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("end", "reason", "sequence"),
    [
        ({"reason": "stop"}, "end_turn", None),
        ({"reason": "length"}, "max_tokens", None),
        ({"reason": "stop", "stop": "END"}, "stop_sequence", "END"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_why_it_stopped(
    gateway: Gateway, end: dict[str, str], reason: str, sequence: str | None, stream: bool
) -> None:
    gateway.pool.says = [Delta("x", finish=finish(**end))]
    reply = await create(gateway, stream=stream)
    told = events(reply)[-2]["delta"] if stream else reply.json

    assert (told["stop_reason"], told["stop_sequence"]) == (reason, sequence)


# --- streams -------------------------------------------------------------------------------------


async def test_a_stream(gateway: Gateway) -> None:
    start, block, one, two, stop, delta, end = events(await create(gateway, stream=True))

    message = start["message"]
    assert message["id"].startswith("msg_")
    assert (message["content"], message["stop_reason"]) == ([], None)
    assert block == {
        "type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""},
    }  # fmt: skip
    assert (one["index"], one["delta"]) == (0, {"type": "text_delta", "text": "one "})
    assert two["delta"]["text"] == "two"
    assert stop == {"type": "content_block_stop", "index": 0}
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert (delta["usage"]["input_tokens"], delta["usage"]["output_tokens"]) == (3, 3)
    assert end == {"type": "message_stop"}


async def test_streamed_blocks_follow_each_other(gateway: Gateway) -> None:
    gateway.pool.says = [
        Delta(reasoning="h"),
        Delta("t", reasoning="m"),
        Delta(calls=[ToolCall("f", '{"a": 1}'), ToolCall("g", "{}")]),
        Delta("after", finish=finish(reason="tool_calls")),
    ]
    told = events(await create(gateway, tools=TOOLS, stream=True))[1:-2]

    is_open = False
    for event in told:
        kind = event["type"].removeprefix("content_block_")
        assert is_open is (kind != "start")
        is_open = kind != "stop"
    starts = [event for event in told if event["type"] == "content_block_start"]
    assert [event["index"] for event in starts] == [0, 1, 2, 3, 4]
    kinds = [event["content_block"]["type"] for event in starts]
    assert kinds == ["thinking", "text", "tool_use", "tool_use", "text"]
    assert starts[2]["content_block"]["name"] == "f"
    assert starts[2]["content_block"]["input"] == {}
    deltas = [(e["index"], e["delta"]) for e in told if e["type"] == "content_block_delta"]
    thinking = "".join(delta.get("thinking", "") for _, delta in deltas)
    assert thinking == "hm"
    assert [delta["type"] for index, delta in deltas if index == 0][-1] == "signature_delta"
    assert (2, {"type": "input_json_delta", "partial_json": '{"a": 1}'}) in deltas


def test_a_silence_is_a_ping() -> None:
    assert (
        AnthropicEvents("m", "/v1/messages").silence() == b'event: ping\ndata: {"type":"ping"}\n\n'
    )


async def test_an_error_in_a_stream_is_an_event(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("one ")]
    gateway.pool.refusal = ServeError(ErrorCode.WORKER_CRASHED, "it died")
    told = events(await create(gateway, stream=True))

    assert told[-1] == {"type": "error", "error": {"type": "api_error", "message": "it died"}}
    assert "message_stop" not in [event["type"] for event in told]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_first_word_is_an_http_error(
    gateway: Gateway, stream: bool
) -> None:
    gateway.pool.says = []
    gateway.pool.refusal = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long")
    reply = await create(gateway, stream=stream)

    told = {"type": "invalid_request_error", "message": "too long"}
    assert (reply.status, reply.json) == (400, {"type": "error", "error": told})


# --- what is asked -------------------------------------------------------------------------------


async def test_how_to_answer(gateway: Gateway) -> None:
    await create(
        gateway, temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["END", ""],
        metadata={"user_id": "u"}, service_tier="auto", keep_alive=-1,
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )  # fmt: skip

    assert gateway.pool.part.sampling == Sampling(
        max_tokens=9, temperature=0.5, top_p=0.9, top_k=40, stop=["END"],
        json_schema=msgspec.json.encode(SCHEMA).decode(),
    )  # fmt: skip
    assert gateway.pool.ttl_s == math.inf


async def test_tools(gateway: Gateway) -> None:
    told = await asked(gateway, tools=TOOLS)

    function = {"name": "f", "description": "d", "parameters": SCHEMA}
    assert told.tools[0] == {"type": "function", "function": function}
    assert (told.forced, told.is_parallel) == ([], True)


@pytest.mark.parametrize(
    ("choice", "offered", "forced", "is_parallel"),
    [
        ({"type": "auto"}, 2, [], True),
        ({"type": "auto", "disable_parallel_tool_use": True}, 2, [], False),
        ({"type": "any"}, 2, ["f", "g"], True),
        ({"type": "tool", "name": "g"}, 2, ["g"], True),
        ({"type": "none"}, 0, [], True),
    ],
    ids=str,
)
async def test_tool_choice(
    gateway: Gateway, choice: Any, offered: int, forced: list[str], is_parallel: bool
) -> None:
    told = await asked(gateway, tools=TOOLS, tool_choice=choice)
    assert (len(told.tools), told.forced, told.is_parallel) == (offered, forced, is_parallel)


@pytest.mark.parametrize(
    ("model", "type", "thinking"),
    [
        ("m", "enabled", True),
        ("m", "disabled", False),
        ("m", "adaptive", None),
        ("simple", "enabled", None),
        ("simple", "disabled", None),
    ],
)
async def test_thinking(gateway: Gateway, model: str, type: str, thinking: bool | None) -> None:
    # Agents ask every model for it; one that cannot answers without.
    told = await asked(gateway, model=model, thinking={"type": type, "budget_tokens": 1024})
    assert told.thinking is thinking


@pytest.mark.parametrize(("effort", "told"), [("low", "low"), ("xhigh", "high"), (None, None)])
async def test_effort(gateway: Gateway, effort: str | None, told: str | None) -> None:
    assert (await asked(gateway, output_config={"effort": effort})).effort == told


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"model": None}, 400, "invalid_request_error"),
        ({"model": "absent"}, 404, "not_found_error"),
        ({"max_tokens": None}, 400, "invalid_request_error"),
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"max_tokens": 10**30}, 400, "invalid_request_error"),
        ({"temperature": 1.5}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400,
         "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "odd"}]}]}, 400,
         "invalid_request_error"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 400,
         "invalid_request_error"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "h"}}, 400,
         "invalid_request_error"),
        ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error"),
        ({"model": "simple", "tools": TOOLS}, 400, "invalid_request_error"),
        ({"thinking": {"type": "odd"}}, 400, "invalid_request_error"),
        ({"keep_alive": "soon"}, 400, "invalid_request_error"),
    ],
    ids=str,
)  # fmt: skip
async def test_errors(gateway: Gateway, body: dict[str, Any], status: int, kind: str) -> None:
    reply = await create(gateway, **body)

    assert reply.status == status
    assert set(reply.json) == {"type", "error"}
    assert reply.json["type"] == "error"
    assert reply.json["error"]["type"] == kind
    assert reply.json["error"]["message"]
    assert gateway.pool.parts == []


async def test_counting(gateway: Gateway) -> None:
    body = {"model": "m", "messages": HI, "system": "s", "tools": TOOLS}
    reply = await gateway.post("/v1/messages/count_tokens", body)

    assert reply.json == {"input_tokens": 3}
    part = gateway.pool.part
    assert isinstance(part, TokenizeConversation)
    (counted,) = part.conversations
    assert counted == await asked(gateway, system="s", tools=TOOLS)
